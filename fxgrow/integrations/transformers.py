"""Growth under Hugging Face's ``Trainer``: a callback, and what makes its checkpoints load.

Only what the model's config can describe grows, unless the scope says otherwise, so a checkpoint
is loaded by ``from_pretrained`` as any other. ``Trainer.train(resume_from_checkpoint=...)`` loads
weights into the model that the program makes: ``regrow_from_checkpoint`` lets that grow first.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Fraction, Name, Seed
from fxgrow.documents import limits, read_text
from fxgrow.errors import ArgumentError, SpecError, TrainingError
from fxgrow.growth import BatchLoss, LossFunction, Scope
from fxgrow.integrations.loaders import growth_loader, own_randomness
from fxgrow.integrations.mean_loss import MeanLoss
from fxgrow.integrations.options import require_grower_options
from fxgrow.integrations.unsupported import (
    Unsupported,
    require_no_group,
    require_no_promise,
    require_one_process,
    require_supported,
)
from fxgrow.integrations.validation import Validation
from fxgrow.optional import require
from fxgrow.surgery import follow_ages
from fxgrow.training import Grower, Trigger, regrow_from_state

_Callback: Any = require("transformers", extra="transformers", error=TrainingError).TrainerCallback
# Callbacks of this kind are written into the trainer's own state.
ExportableState: Any = import_module("transformers.trainer_callback").ExportableState
LabelSmoother: Any = import_module("transformers.trainer_pt_utils").LabelSmoother
CAUSAL_MODELS: Any = import_module("transformers.models.auto.modeling_auto")

STATE_FILE = "trainer_state.json"
EXPRESSIBLE = Scope(expressible=True)
"""Every width that the model's config can describe."""


def _given(name: str) -> Callable[[Any], str | None]:
    """Finds an argument that was given."""
    return lambda args: name if getattr(args, name, None) else None


_UNSUPPORTED = (
    Unsupported(
        _given("load_best_model_at_end"),
        "would end a training with weights of another size than the model's; leave it out, and "
        "load trainer.state.best_model_checkpoint by from_pretrained (metric_for_best_model is "
        "enough for it to be kept)",
    ),
    Unsupported(
        _given("auto_find_batch_size"),
        "begins anew with a smaller batch once memory runs out, when the model may have grown; "
        "give per_device_train_batch_size",
    ),
    Unsupported(
        _given("restore_callback_states_from_checkpoint"),
        "makes callbacks anew without their settings; leave it out, since GrowthTrainerCallback "
        "restores its own state",
    ),
    Unsupported(_given("fsdp"), "shards parameters, and a shard cannot grow; leave it out"),
    Unsupported(_given("deepspeed"), "keeps parameters in buffers of its own; leave it out"),
)
"""What ``TrainingArguments`` may hold, and growth cannot work under."""


def own_loss(model: Any, batch: Mapping[str, Any]) -> Tensor:
    """The loss that a model computes from a batch that holds labels.

    Args:
        model: gives an output with a ``loss``.
        batch: its keyword arguments.
    """
    loss: Tensor = model(**batch).loss
    return loss


@checked
def smoothed_loss(epsilon: Fraction) -> Callable[[Any, Any], Tensor]:
    """The loss of a ``Trainer`` with ``label_smoothing_factor``.

    Args:
        epsilon: the factor.

    Returns:
        A function as ``own_loss`` is.
    """
    smoother = LabelSmoother(epsilon=epsilon)
    causal = set(CAUSAL_MODELS.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())

    def loss_of(model: Any, batch: Mapping[str, Any]) -> Tensor:
        # What a causal model says at a position is about the next one.
        is_causal = type(model).__name__ in causal
        loss: Tensor = smoother(model(**batch), batch["labels"], shift_labels=is_causal)
        return loss

    return loss_of


class GrowthTrainerCallback(_Callback, ExportableState):  # type: ignore[misc]
    """Grows the model of a ``Trainer`` in place, between epochs.

    Optimizer and scheduler go on, since they stay the objects that they are. An epoch is logged,
    evaluated and saved first, and the model grows before the next one begins. It is logged at its
    end whatever ``logging_strategy`` says, and before it is saved within an epoch, since only what
    is logged is known of the training loss; it is evaluated then if the trigger asks.

    Args:
        when: the trigger; any of ``fxgrow.training`` but ``ByPromise``.
        loss_fn: as for ``fxgrow.grow``; None: the loss that the model itself computes, with the
            trainer's ``label_smoothing_factor``.
        scope: what may grow; by default what the config can describe.
        monitor: the validation loss, by its name among the metrics of an evaluation.
        monitor_accuracy: the validation accuracy, by its name among them.
        batches: gives growth batches; None: those of the trainer's own data, in another order.
        seed: of the order of growth batches and of the first directions.
        options: all else that a ``fxgrow.Grower`` takes (``method``, ``budget``, ``grow_steps``,
            ``state`` ...).

    Raises:
        TrainingError: ``missing-extra``: transformers is not installed; ``no-promise``: the trigger
            asks for what the trainer does not count.
        ArgumentError: ``bad-argument``: an option is none of a grower's, or of a wrong kind.

    Example:
        >>> growth = GrowthTrainerCallback(when=EveryEpochs(epochs=1), grow_steps=2)
        >>> Trainer(model, args, train_dataset=data, callbacks=[growth]).train()
    """

    @checked
    def __init__(
        self,
        *,
        when: Trigger,
        loss_fn: LossFunction | None = None,
        scope: Scope = EXPRESSIBLE,
        monitor: Name = "eval_loss",
        monitor_accuracy: Name = "eval_accuracy",
        batches: Callable[[], Iterable[Any]] | None = None,
        seed: Seed = 0,
        **options: Any,
    ) -> None:
        require_no_promise(when)
        require_grower_options(type(self).__name__, options)
        self.grower: Grower | None = None
        self.when, self.batches, self.seed = when, batches, seed
        self._loss_fn = loss_fn
        self._options = {"when": when, "scope": scope, "seed": seed, **options}
        self._loss, self._validation = MeanLoss(), Validation(monitor, monitor_accuracy)
        self._metrics: Mapping[str, Any] = {}  # of the last evaluation
        self._epochs = self._logged = 0  # epochs that are over, the last step that was logged

    def state(self) -> dict[str, Any]:
        """What ``trainer_state.json`` keeps of it."""
        attributes = {
            "growth": None if self.grower is None else self.grower.state_dict(),
            "loss": self._loss.state_dict(),
            "validation": self._validation.state_dict(),
        }
        return {"args": {}, "attributes": attributes}

    def on_init_end(self, args: Any, state: Any, control: Any, **kept: Any) -> None:
        """Check the arguments where a trainer is made."""
        self._require_supported(args)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kept: Any) -> None:
        """Make the grower, and check what can be checked before anything is trained."""
        self._require_supported(args)  # of a callback that was added later, too
        if self.batches is None:
            growth_loader(kept["train_dataloader"], self.seed)
        # Accelerate wraps the optimizer, and steps the one inside.
        optimizer = getattr(kept["optimizer"], "optimizer", kept["optimizer"])
        # Of a stream nobody knows how many there are, and the trainer says the largest number.
        epochs = state.num_train_epochs if state.num_train_epochs <= limits.EPOCHS else 0
        options = {"epochs": epochs, "loss_fn": self._loss_of(args)}
        self.grower = Grower(kept["model"], optimizer, **{**options, **self._options})
        self._loss, self._logged, self._metrics = MeanLoss(), state.global_step, {}
        self._validation.take()
        earlier = _state_of(state.stateful_callbacks)
        if earlier is not None and earlier["growth"] is not None:
            self.grower.load_state_dict(earlier["growth"])
            self._loss.load_state_dict(earlier["loss"])
            self._validation.load_state_dict(earlier["validation"])
            # What steps new entries apart is a hook, and hooks are not saved.
            follow_ages(optimizer)
        # The number of an epoch that is not over yet is a fraction.
        self._epochs = max(self.grower.history.now.epoch, int(state.epoch or 0))

    def _require_supported(self, args: Any) -> None:
        """Check the arguments of a trainer."""
        require_one_process(max(args.world_size, args.n_gpu))
        require_no_group()
        require_supported(_UNSUPPORTED, args)
        if "validation" in self.when.needs and args.eval_strategy == "no":
            raise TrainingError(
                "no-validation",
                f"{type(self.when).__name__} decides by validation data, and the trainer does not "
                "evaluate; give eval_dataset and eval_strategy='epoch', or choose another trigger",
            )

    def _loss_of(self, args: Any) -> LossFunction:
        """The loss that was given, or that of the trainer."""
        if self._loss_fn is not None:
            return self._loss_fn
        epsilon = args.label_smoothing_factor
        return BatchLoss(smoothed_loss(epsilon) if epsilon else own_loss)

    def on_step_end(self, args: Any, state: Any, control: Any, **kept: Any) -> None:
        """Let what is saved be logged before, else its loss would be lost when it goes on."""
        control.should_log |= control.should_save or control.should_evaluate

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kept: Any) -> None:
        """Let the loss of the epoch be logged, and what the trigger asks for be evaluated."""
        self._epochs += 1
        control.should_log = True
        control.should_evaluate |= not self._validation.knows(self.when)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **kept: Any
    ) -> None:
        """Keep the training loss, which is the mean since the log before."""
        if "loss" in logs:
            self._loss.add(float(logs["loss"]), state.global_step - self._logged)
            self._logged = state.global_step

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any], **kept: Any
    ) -> None:
        """Keep the validation loss and accuracy."""
        self._metrics = metrics
        self._validation.read(metrics)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kept: Any) -> None:
        """Forget an evaluation of weights that are trained further."""
        self._validation.take()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kept: Any) -> None:
        """Tell the trigger what was measured of the epoch before, and grow if it says so."""
        grower, epoch = self.grower, self._epochs
        if grower is None or epoch <= grower.history.now.epoch:
            return  # the first epoch, or one that goes on after a checkpoint in its middle
        # A checkpoint that was written at the last step of an epoch knows nothing of its
        # evaluation; the trigger waits for the next one.
        if not self._metrics and not self._validation.knows(self.when):
            return
        self._validation.require_values(self.when, self._metrics)
        with own_randomness(self.seed + epoch):
            grower.step(
                self._growth_batches(kept["model"], kept["train_dataloader"], epoch),
                loss=self._loss.take(),
                epoch=epoch,
                step=state.global_step,
                **self._validation.take(),
            )

    def _growth_batches(self, model: nn.Module, loader: Any, epoch: int) -> Iterator[Any]:
        """Growth batches on the model's device."""
        device = next(model.parameters()).device
        for batch in self.batches() if self.batches else growth_loader(loader, self.seed + epoch):
            yield tree_map_only(Tensor, lambda tensor: tensor.to(device), _plain(batch))


def _plain(batch: Any) -> Any:
    """A batch as a dict, where a tokenizer's own mapping was collated."""
    return dict(batch) if isinstance(batch, Mapping) else batch


def _state_of(callbacks: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What ``state`` gave, among what a trainer kept of its callbacks."""
    # A list where a trainer was given several.
    kept = callbacks.get(GrowthTrainerCallback.__name__)
    if isinstance(kept, list):
        kept = kept[-1]
    state: Mapping[str, Any] | None = None if kept is None else kept["attributes"]
    return state


@checked
def regrow_from_checkpoint(
    model: nn.Module, checkpoint: str | Path, example_inputs: Any = None
) -> None:
    """Let a model grow, in place, as it had when a ``Trainer`` wrote a checkpoint.

    Args:
        model: as it was before the first growth step. Its weights become copies and zeros.
        checkpoint: the directory that ``Trainer.train`` is to resume from.
        example_inputs: arguments of the model; None: its ``dummy_inputs``.

    Raises:
        SpecError: ``no-growth``: the checkpoint says nothing of growth; or what it says is not of
            this model.
        ArgumentError: ``bad-argument``: there are no ``example_inputs``, nor has the model any.

    Example:
        >>> regrow_from_checkpoint(model, "out/checkpoint-30")
        >>> Trainer(model, args, ..., callbacks=[growth]).train("out/checkpoint-30")
    """
    inputs = getattr(model, "dummy_inputs", None) if example_inputs is None else example_inputs
    if inputs is None:
        raise ArgumentError(
            "bad-argument",
            f"regrow_from_checkpoint() cannot use example_inputs=None, for {type(model).__name__} "
            "has no dummy_inputs; give the arguments of the model",
        )
    path = Path(checkpoint) / STATE_FILE
    try:
        kept = _state_of(json.loads(read_text(path)).get("stateful_callbacks", {}))
        state = None if kept is None else kept["growth"]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise SpecError(
            "bad-value", f"{path} is no state of a trainer ({error}); give another checkpoint"
        ) from error
    if state is None:
        raise SpecError(
            "no-growth",
            f"{path} says nothing of growth; give one of a training with GrowthTrainerCallback",
        )
    regrow_from_state(model, state, inputs)
