"""Growth under Lightning's ``Trainer``: a callback, and a base for modules whose checkpoints load.

Lightning loads the weights of a checkpoint into the module that the program makes, which is that of
the start. ``GrowingModule`` lets its network grow again before that happens, for ``Trainer.fit(...,
ckpt_path=...)`` and ``load_from_checkpoint`` alike.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Name, Seed
from fxgrow.errors import ModelError, SpecError, TrainingError
from fxgrow.growth import LossFunction
from fxgrow.integrations.loaders import growth_loader, own_randomness
from fxgrow.integrations.mean_loss import MeanLoss
from fxgrow.integrations.options import require_grower_options
from fxgrow.integrations.unsupported import (
    Unsupported,
    require_no_promise,
    require_one_process,
    require_supported,
)
from fxgrow.integrations.validation import Validation
from fxgrow.optional import require
from fxgrow.surgery import follow_ages
from fxgrow.training import Grower, Trigger, regrow_from_state

lightning = require("lightning.pytorch", extra="lightning", error=TrainingError)
# Mypy cannot see bases of a package that is imported by name.
_Module: Any = lightning.LightningModule
_Callback: Any = lightning.Callback

_callbacks: Any = lightning.callbacks
_precision: Any = lightning.plugins.precision
_SingleDevice: Any = lightning.strategies.SingleDeviceStrategy

STATE = "fxgrow"
"""The key of a checkpoint under which the growth of a module lies."""

_KEEP_COPIES = (_callbacks.WeightAveraging, _callbacks.StochasticWeightAveraging)
_PRECISIONS = (
    _precision.Precision,
    _precision.MixedPrecision,
    _precision.DoublePrecision,
    _precision.HalfPrecision,
)


def _strategy(trainer: Any) -> str | None:
    """The strategy, if it wraps the module or shards it."""
    strategy = trainer.strategy
    return None if isinstance(strategy, _SingleDevice) else f"strategy {type(strategy).__name__}"


def _plugin(trainer: Any) -> str | None:
    """The precision, if it stores weights in a form of its own."""
    plugin = trainer.precision_plugin
    return None if type(plugin) in _PRECISIONS else f"precision {type(plugin).__name__}"


def _callback(*kinds: type) -> Callable[[Any], str | None]:
    """Finds a callback of some kind."""

    def find(trainer: Any) -> str | None:
        found = [type(one).__name__ for one in trainer.callbacks if isinstance(one, kinds)]
        return f"the callback {found[0]}" if found else None

    return find


_UNSUPPORTED = (
    Unsupported(
        _strategy,
        "keeps the shapes that parameters have at the start; train with strategy='auto' on one "
        "device",
    ),
    Unsupported(
        _plugin,
        "stores weights in a form that cannot grow; train with precision='32-true', '16-true', "
        "'bf16-true', '64-true', '16-mixed' or 'bf16-mixed'",
    ),
    Unsupported(
        _callback(*_KEEP_COPIES),
        "averages weights in a copy that would not grow along; leave it out",
    ),
    Unsupported(
        _callback(_callbacks.ModelPruning),
        "keeps masks that would not grow along; leave it out, and prune when growth is over",
    ),
)
"""What a ``Trainer`` may be given, and growth cannot work under."""


class GrowingModule(_Module):  # type: ignore[misc]
    """A ``LightningModule`` whose checkpoints can be loaded after its network has grown.

    Example:
        >>> class Classifier(GrowingModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.network = torchvision.models.resnet18(num_classes=10)
    """

    growth: Mapping[str, Any] | None = None
    """The network's path, its example inputs, and how it grew; None while nothing has grown."""

    @checked
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write how the network grew beside the weights."""
        super().on_save_checkpoint(checkpoint)
        if self.growth is not None:
            checkpoint[STATE] = dict(self.growth)

    @checked
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the network grow again, before Lightning loads the weights into it.

        Raises:
            TrainingError: ``already-grown``: it has grown otherwise, or further, by now.
            SpecError: ``bad-value``: what the checkpoint says of growth is no such thing.
            ModelError: ``unknown-module``: the module has no network of that path.
        """
        super().on_load_checkpoint(checkpoint)
        growth = _saved_growth(checkpoint)
        missing = _missing_growth(self, growth)
        if growth is not None and missing:
            self._regrow(growth, missing)
        self.growth = growth

    def _regrow(self, growth: Mapping[str, Any], missing: list[Any]) -> None:
        """Let the network grow by the steps of a checkpoint that it has not done yet."""
        # As it was saved: other inputs could take another path through the network.
        path, inputs = growth["network"], growth["example_inputs"]
        state = {**growth["grower"], "grown": missing}
        network = _submodule(self, path)
        grown = regrow_from_state(network, state, inputs)
        # With inserted layers it is another module, a graph.
        if path and grown is not network:
            self.set_submodule(path, grown)


_GROWTH_FIELDS: Mapping[str, type] = {
    "network": str,
    "example_inputs": object,
    "grower": Mapping,
}
"""What a checkpoint says of growth, by name."""


def _saved_growth(checkpoint: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a checkpoint says of growth, as far as it is looked at here."""
    growth = checkpoint.get(STATE)
    if growth is None:
        return None
    is_whole = isinstance(growth, Mapping) and all(
        isinstance(growth.get(name), kind) for name, kind in _GROWTH_FIELDS.items()
    )
    if not is_whole or not isinstance(growth["grower"].get("grown"), list):
        raise SpecError(
            "bad-value",
            f"what the checkpoint holds under {STATE!r} does not say how a network has grown, so "
            "its weights would not fit; give another checkpoint",
            STATE,
        )
    return dict(growth)


def _submodule(module: Any, path: str) -> nn.Module:
    """The network in a module."""
    try:
        network: nn.Module = module.get_submodule(path)
    except AttributeError as error:
        raise ModelError(
            "unknown-module",
            f"{type(module).__name__} has no module {path[:80]!r}, so nothing could grow; give the "
            "path of its network, as in named_modules()",
        ) from error
    return network


def _missing_growth(module: GrowingModule, saved: Mapping[str, Any] | None) -> list[Any]:
    """The growth steps of a checkpoint that a module has not done yet, as plain values."""
    has = [] if module.growth is None else module.growth["grower"]["grown"]
    wanted = [] if saved is None else saved["grower"]["grown"]
    if wanted[: len(has)] != has:
        raise TrainingError(
            "already-grown",
            f"{type(module).__name__} has grown {len(has)} times by now, and the checkpoint, with "
            f"{len(wanted)} growth steps, is not of what it became; load it into a new module, by "
            "load_from_checkpoint, say",
        )
    return wanted[len(has) :]


class GrowthCallback(_Callback):  # type: ignore[misc]
    """Grows a network of a ``GrowingModule`` in place, at the ends of epochs.

    Optimizer, schedulers, gradient scaler and loggers go on, since model and optimizer stay the
    objects that they are.

    A growth step follows the last optimizer step of an epoch. Epochs that a trainer breaks off
    (``max_steps``) are no epochs yet, and go on from a checkpoint.

    Args:
        network: the path of the network in the module (``"network"``).
        loss_fn: ``loss_fn(output, target)`` or a ``BatchLoss``, as for ``fxgrow.grow``.
        when: the trigger; any of ``fxgrow.training`` but ``ByPromise``.
        monitor: the name of a logged validation loss, for triggers that ask for one.
        monitor_accuracy: the name of a logged validation accuracy, for triggers that ask for one.
        batches: gives growth batches; None: those of the trainer's own data, in another order.
        seed: of the order of growth batches and of the first directions.
        options: all else that a ``fxgrow.Grower`` takes (``method``, ``budget``, ``grow_steps``,
            ``scope``, ``state`` ...).

    Raises:
        TrainingError: ``missing-extra``: Lightning is not installed; ``no-promise``: the trigger
            asks for what Lightning does not count; ``no-validation``: it asks for a validation
            loss or accuracy, and its name is not given.
        ArgumentError: ``bad-argument``: an option is none of a grower's, or of a wrong kind.

    Example:
        >>> growth = GrowthCallback(
        ...     "network", loss_fn=nn.functional.cross_entropy, when=EveryEpochs(epochs=5)
        ... )
        >>> lightning.Trainer(max_epochs=20, callbacks=[growth]).fit(Classifier(), loader)
    """

    @checked
    def __init__(
        self,
        network: str,
        *,
        loss_fn: LossFunction,
        when: Trigger,
        monitor: Name | None = None,
        monitor_accuracy: Name | None = None,
        batches: Callable[[], Iterable[Any]] | None = None,
        seed: Seed = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        require_no_promise(when)
        require_grower_options(type(self).__name__, options)
        self.network, self.when, self.batches, self.seed = network, when, batches, seed
        self.grower: Grower | None = None
        self._options = {"loss_fn": loss_fn, "when": when, "seed": seed, **options}
        self._validation = Validation(monitor, monitor_accuracy)
        self._validation.require_names(when)
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        """Forget what was measured since the last epoch that is over."""
        self._loss, self._batches = MeanLoss(), 0
        self._validation.take()

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Check what can be checked before anything is loaded or trained."""
        if stage != "fit":
            return
        if not isinstance(pl_module, GrowingModule):
            raise TrainingError(
                "not-growing",
                f"the checkpoints of {type(pl_module).__name__} could not be loaded after growth; "
                "let it inherit fxgrow.integrations.lightning.GrowingModule",
            )
        require_one_process(trainer.world_size)
        require_supported(_UNSUPPORTED, trainer)
        if sum(isinstance(one, GrowthCallback) for one in trainer.callbacks) > 1:
            raise TrainingError(
                "trainer-setting",
                "a second GrowthCallback would overwrite how the network of the first has grown; "
                "give one",
            )
        self._require_validation(trainer)
        if trainer.global_step == 0:  # what another fit left is of no use here
            self._begin_epoch()

    def _require_validation(self, trainer: Any) -> None:
        """Check that every epoch is validated, if the trigger decides by it."""
        if "validation" not in self.when.needs:
            return
        if not trainer.enable_validation or trainer.check_val_every_n_epoch != 1:
            raise TrainingError(
                "no-validation",
                f"{type(self.when).__name__} decides by validation data after every epoch, and the "
                "trainer does not validate then; give a validation loader and leave out "
                "check_val_every_n_epoch, or choose another trigger",
            )

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Make the grower; the optimizers are there by now, and checkpoints are loaded."""
        network = _submodule(pl_module, self.network)
        optimizers = _optimizers_of(trainer.optimizers, network)
        if self.batches is None:  # refused now rather than when it grows
            growth_loader(trainer.train_dataloader, self.seed)
        epochs = max(trainer.max_epochs or 0, 0)  # -1 says that there is no end
        self.grower = Grower(network, optimizers or None, **{"epochs": epochs, **self._options})
        if pl_module.growth is not None:
            self.grower.load_state_dict(pl_module.growth["grower"])
            for optimizer in optimizers:  # what steps new entries apart is a hook, and not saved
                follow_ages(optimizer)
        # A checkpoint that was written at the last batch of an epoch knows that the epoch is over,
        # and Lightning goes on with the next one.
        is_open = self._batches > 0 and self.grower.history.now.epoch < trainer.current_epoch
        # Without its validation the trigger could not say, and waits for the next epoch.
        if is_open and self._validation.knows(self.when):
            self._end_epoch(trainer, pl_module, trainer.current_epoch)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the training loss."""
        self._batches += 1
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            # Lightning divides it by the batches of an optimizer step, for their sum.
            is_share = pl_module.automatic_optimization
            self._loss.add(loss * trainer.accumulate_grad_batches if is_share else loss)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Keep the validation loss, which is saved before the epoch ends."""
        if not trainer.sanity_checking:
            self._validation.read(trainer.callback_metrics)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Tell the trigger what was measured, and grow if it says so.

        Checkpoints of this epoch are written afterwards.
        """
        # An epoch that was broken off may end between two optimizer steps.
        if self.grower is not None and trainer.is_last_batch:
            self._end_epoch(trainer, pl_module, trainer.current_epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """What was measured since the last epoch that is over."""
        return {
            "batches": self._batches,
            "loss": self._loss.state_dict(),
            "validation": self._validation.state_dict(),
        }

    @checked
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on in the middle of an epoch.

        Args:
            state: what the ``state_dict`` of another one gave.

        Raises:
            SpecError: ``bad-value``: it holds something else.
        """
        kinds = {"batches": int, "loss": Mapping, "validation": Mapping}
        for name, kind in kinds.items():
            if not isinstance(state.get(name), kind):
                raise SpecError(
                    "bad-value",
                    f"the state of a GrowthCallback has no {name} of its kind, so the epoch cannot "
                    "go on; give another checkpoint",
                    name,
                )
        self._batches = state["batches"]
        self._loss.load_state_dict(state["loss"])
        self._validation.load_state_dict(state["validation"])

    def _end_epoch(self, trainer: Any, pl_module: Any, epoch: int) -> None:
        """Measure an epoch, and grow if the trigger says so."""
        grower: Any = self.grower
        self._batches = 0
        self._validation.read(trainer.callback_metrics)
        self._validation.require_values(self.when, trainer.callback_metrics)
        with own_randomness(self.seed + epoch):
            # Batches are made only if it grows.
            growth = grower.step(
                self._growth_batches(trainer, pl_module, epoch),
                loss=self._loss.take(),
                epoch=epoch,
                step=trainer.global_step,
                **self._validation.take(),
            )
            known = pl_module.growth or {"network": self.network, "example_inputs": ()}
            if growth is not None:
                first = next(self._growth_batches(trainer, pl_module, epoch))
                inputs = grower.inputs_of(first)
                known = {**known, "example_inputs": tree_map_only(Tensor, _kept, inputs)}
        pl_module.growth = {**known, "grower": grower.state_dict()}

    def _growth_batches(self, trainer: Any, pl_module: Any, epoch: int) -> Iterator[Any]:
        """Growth batches as the module gets its own: on its device, of its precision."""
        loader = trainer.train_dataloader
        for batch in self.batches() if self.batches else growth_loader(loader, self.seed + epoch):
            converted = trainer.precision_plugin.convert_input(batch)
            converted = pl_module.on_before_batch_transfer(converted, 0)
            yield trainer.strategy.batch_to_device(converted)


def _kept(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu()


def _optimizers_of(optimizers: Iterable[Optimizer], network: nn.Module) -> list[Optimizer]:
    """The optimizers that train a network, or parts of it."""
    own = {id(parameter) for parameter in network.parameters()}
    found = []
    for optimizer in optimizers:
        held = [p for group in optimizer.param_groups for p in group["params"]]
        if any(id(parameter) in own for parameter in held):
            found.append(optimizer)
    return found
