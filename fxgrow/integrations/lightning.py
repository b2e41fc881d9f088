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

from fxgrow.argument_checks import Seed, checked
from fxgrow.errors import TrainingError
from fxgrow.growth import LossFunction
from fxgrow.integrations.loaders import growth_loader
from fxgrow.optional import require
from fxgrow.surgery import follow_ages
from fxgrow.training import Grower, Trigger, regrow_from_state

lightning = require("lightning.pytorch", extra="lightning", error=TrainingError)
# Mypy cannot see bases of a package that is imported by name.
_Module: Any = lightning.LightningModule
_Callback: Any = lightning.Callback

STATE = "fxgrow"
"""The key of a checkpoint under which the growth of a module lies."""


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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write how the network grew beside the weights."""
        super().on_save_checkpoint(checkpoint)
        if self.growth is not None:
            checkpoint[STATE] = dict(self.growth)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the network grow again, before Lightning loads the weights into it."""
        super().on_load_checkpoint(checkpoint)
        if STATE not in checkpoint:
            return
        self.growth = checkpoint[STATE]
        # As it was saved: other inputs could take another path through the network.
        path, inputs = self.growth["network"], self.growth["example_inputs"]
        grown = regrow_from_state(self.get_submodule(path), self.growth["grower"], inputs)
        # With inserted layers it is another module, a graph.
        if path and grown is not self.get_submodule(path):
            self.set_submodule(path, grown)


class GrowthCallback(_Callback):  # type: ignore[misc]
    """Grows a network of a ``GrowingModule`` in place, at the ends of epochs.

    Optimizer, schedulers, gradient scaler and loggers go on, since model and optimizer stay the
    objects that they are.

    Args:
        network: the path of the network in the module (``"network"``).
        loss_fn: ``loss_fn(output, target)`` or a ``BatchLoss``, as for ``fxgrow.grow``.
        when: the trigger; any of ``fxgrow.training``.
        monitor: the name of a logged validation loss, for triggers that ask for one.
        batches: gives growth batches; None: those of the trainer's own data, in another order.
        seed: of the order of growth batches and of the first directions.
        options: all else that a ``fxgrow.Grower`` takes (``method``, ``budget``, ``grow_steps``,
            ``scope``, ``state`` ...).

    Raises:
        TrainingError: ``missing-extra``: Lightning is not installed.

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
        monitor: str | None = None,
        batches: Callable[[], Iterable[Any]] | None = None,
        seed: Seed = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        self.network, self.monitor, self.batches, self.seed = network, monitor, batches, seed
        self.grower: Grower | None = None
        self._options = {"loss_fn": loss_fn, "when": when, "seed": seed, **options}
        self._losses: list[float] = []

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Check what can be checked before anything is trained."""
        if not isinstance(pl_module, GrowingModule):
            raise TrainingError(
                "not-growing",
                f"the checkpoints of {type(pl_module).__name__} could not be loaded after growth; "
                "let it inherit fxgrow.integrations.lightning.GrowingModule",
            )
        if trainer.world_size > 1:
            raise TrainingError(
                "distributed",
                f"{trainer.world_size} processes train the model, and each would grow in its own "
                "way; train in one process",
            )

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Make the grower; the optimizers are there by now, and checkpoints are loaded."""
        network = pl_module.get_submodule(self.network)
        optimizer = _optimizer_of(trainer.optimizers, network)
        self.grower = Grower(network, optimizer, **self._options)
        if pl_module.growth is not None:
            self.grower.load_state_dict(pl_module.growth["grower"])
            if optimizer is not None:  # what steps new entries apart is a hook, and not saved
                follow_ages(optimizer)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the training loss."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            self._losses.append(float(loss.detach()))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Tell the trigger what was measured, and grow if it says so.

        Checkpoints of this epoch are written afterwards.
        """
        if self.grower is None:
            return
        losses, self._losses = self._losses, []
        validation = None if self.monitor is None else trainer.callback_metrics.get(self.monitor)
        # Batches are made only if it grows.
        growth = self.grower.step(
            self._growth_batches(trainer, pl_module),
            loss=sum(losses) / max(len(losses), 1),
            epoch=trainer.current_epoch + 1,
            step=trainer.global_step,
            validation_loss=None if validation is None else float(validation),
        )
        known = pl_module.growth or {"network": self.network, "example_inputs": ()}
        if growth is not None:
            inputs = self.grower.inputs_of(next(self._growth_batches(trainer, pl_module)))
            known = {**known, "example_inputs": tree_map_only(Tensor, _kept, inputs)}
        pl_module.growth = {**known, "grower": self.grower.state_dict()}

    def _growth_batches(self, trainer: Any, pl_module: Any) -> Iterator[Any]:
        """Growth batches on the module's device."""
        number = self.seed + trainer.current_epoch
        loader = trainer.train_dataloader
        for batch in self.batches() if self.batches else growth_loader(loader, number):
            yield pl_module.transfer_batch_to_device(batch, pl_module.device, 0)


def _kept(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu()


def _optimizer_of(optimizers: Iterable[Optimizer], network: nn.Module) -> Optimizer | None:
    """The optimizer that trains a network; None if none does."""
    own = {id(parameter) for parameter in network.parameters()}
    found = []
    for optimizer in optimizers:
        held = [p for group in optimizer.param_groups for p in group["params"]]
        if any(id(parameter) in own for parameter in held):
            found.append(optimizer)
    if len(found) > 1:
        raise TrainingError(
            "several-optimizers",
            f"{len(found)} optimizers train parts of the network, and one can grow along; give all "
            "of its parameters to one",
        )
    return found[0] if found else None
