"""Growth under Hugging Face's ``Trainer``: a callback, and what makes its checkpoints load.

Only what the model's config can describe grows, unless the scope says otherwise, so a checkpoint
is loaded by ``from_pretrained`` as any other. ``Trainer.train(resume_from_checkpoint=...)`` loads
weights into the model that the program makes: ``regrow_from_checkpoint`` lets that grow first.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from fxgrow.argument_checks import Seed, checked
from fxgrow.documents import read_text
from fxgrow.errors import SpecError, TrainingError
from fxgrow.growth import BatchLoss, LossFunction, Scope
from fxgrow.integrations.loaders import growth_loader
from fxgrow.optional import require
from fxgrow.surgery import follow_ages
from fxgrow.training import Grower, Trigger, regrow_from_state

_Callback: Any = require("transformers", extra="transformers", error=TrainingError).TrainerCallback
# Callbacks of this kind are written into the trainer's own state.
ExportableState: Any = import_module("transformers.trainer_callback").ExportableState

STATE_FILE = "trainer_state.json"
EXPRESSIBLE = Scope(expressible=True)
"""Every width that the model's config can describe."""


def own_loss(model: Any, batch: Mapping[str, Any]) -> Tensor:
    """The loss that a model computes from a batch that holds labels.

    Args:
        model: gives an output with a ``loss``.
        batch: its keyword arguments.
    """
    loss: Tensor = model(**batch).loss
    return loss


class GrowthTrainerCallback(_Callback, ExportableState):  # type: ignore[misc]
    """Grows the model of a ``Trainer`` in place, between epochs.

    Optimizer and scheduler go on, since they stay the objects that they are. An epoch is logged,
    evaluated and saved first, and the model grows before the next one begins.

    Args:
        when: the trigger; any of ``fxgrow.training``. Those that ask for a validation loss get
            ``eval_loss``.
        loss_fn: as for ``fxgrow.grow``; None: the loss that the model itself computes.
        scope: what may grow; by default what the config can describe.
        batches: gives growth batches; None: those of the trainer's own data, in another order.
        seed: of the order of growth batches and of the first directions.
        options: all else that a ``fxgrow.Grower`` takes (``method``, ``budget``, ``grow_steps``,
            ``state`` ...).

    Raises:
        TrainingError: ``missing-extra``: transformers is not installed.

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
        batches: Callable[[], Iterable[Any]] | None = None,
        seed: Seed = 0,
        **options: Any,
    ) -> None:
        self.grower: Grower | None = None
        self.batches, self.seed = batches, seed
        loss_fn = BatchLoss(own_loss) if loss_fn is None else loss_fn
        self._options = {"loss_fn": loss_fn, "when": when, "scope": scope, "seed": seed, **options}
        self._losses: list[float] = []
        self._validation: float | None = None

    def state(self) -> dict[str, Any]:
        """What ``trainer_state.json`` keeps of it."""
        grown = None if self.grower is None else self.grower.state_dict()
        return {"args": {}, "attributes": {"growth": grown}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kept: Any) -> None:
        """Make the grower, and check what can be checked before anything is trained."""
        if args.world_size > 1:
            raise TrainingError(
                "distributed",
                f"{args.world_size} processes train the model, and each would grow in its own way; "
                "train in one process",
            )
        # Accelerate wraps the optimizer, and steps the one inside.
        optimizer = getattr(kept["optimizer"], "optimizer", kept["optimizer"])
        self.grower = Grower(kept["model"], optimizer, **self._options)
        earlier = _state_of(state.stateful_callbacks)
        if earlier is not None:
            self.grower.load_state_dict(earlier)
            # What steps new entries apart is a hook, and hooks are not saved.
            follow_ages(optimizer)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **kept: Any
    ) -> None:
        """Keep the training loss."""
        if "loss" in logs:
            self._losses.append(float(logs["loss"]))

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any], **kept: Any
    ) -> None:
        """Keep the validation loss."""
        self._validation = metrics.get("eval_loss")

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kept: Any) -> None:
        """Tell the trigger what was measured of the epoch before, and grow if it says so."""
        grower, epoch = self.grower, round(state.epoch or 0)
        if grower is None or epoch <= grower.history.now.epoch:
            return  # the first epoch, or one that goes on after a checkpoint in its middle
        # Without a log since then nothing is known, and a trigger that reads it does not fire.
        losses, self._losses = self._losses, []
        grower.step(
            self._growth_batches(kept["model"], kept["train_dataloader"], epoch),
            loss=sum(losses) / len(losses) if losses else math.nan,
            epoch=epoch,
            step=state.global_step,
            validation_loss=self._validation,
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
    """The state of the grower among those of a trainer's callbacks."""
    # A list where a trainer was given several.
    kept = callbacks.get(GrowthTrainerCallback.__name__)
    if isinstance(kept, list):
        kept = kept[-1]
    state: Mapping[str, Any] | None = None if kept is None else kept["attributes"]["growth"]
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

    Example:
        >>> regrow_from_checkpoint(model, "out/checkpoint-30")
        >>> Trainer(model, args, ..., callbacks=[growth]).train("out/checkpoint-30")
    """
    path = Path(checkpoint) / STATE_FILE
    try:
        state = _state_of(json.loads(read_text(path)).get("stateful_callbacks", {}))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise SpecError(
            "bad-value", f"{path} is no state of a trainer ({error}); give another checkpoint"
        ) from error
    if state is None:
        raise SpecError(
            "no-growth",
            f"{path} says nothing of growth; give one of a training with GrowthTrainerCallback",
        )
    inputs = model.dummy_inputs if example_inputs is None else example_inputs
    regrow_from_state(model, state, inputs)
