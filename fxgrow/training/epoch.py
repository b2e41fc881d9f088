"""One pass of plain training."""

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext

from torch import Tensor, nn
from torch.optim import Optimizer

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Positive
from fxgrow.errors import DataError, TrainingError
from fxgrow.growth import Batch, LossFunction
from fxgrow.kernel_guard import guard_unsafe_kernel
from fxgrow.running import errors_as, input_target_pairs
from fxgrow.training.compiled import CompiledModel
from fxgrow.training.evaluate import loss_of, run_on_batch
from fxgrow.training.precision import Precision, precision_of
from fxgrow.training.shards import Shard, Shards

_ADVICE = "give a loss that depends on the parameters of the model"

OnStep = Callable[[int, float], None]
"""Called with the number of a batch, from 0, and its loss."""


def _no_callback(batch: int, loss: float) -> None:
    """Do nothing after a step."""


@checked
def train_epoch(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: LossFunction,
    optimizer: Optimizer,
    on_step: OnStep = _no_callback,
    clip: Positive | None = None,
    precision: Precision | None = None,
    shards: Shards | None = None,
    first_step: int = 0,
) -> float:
    """Train a model on every batch once.

    Args:
        model: the model; it is left in training mode.
        batches: pairs of inputs and targets.
        loss: from the model's output and the targets to a scalar.
        optimizer: the optimizer of the model's parameters.
        on_step: called after every step with the number of the batch, from 0, and its loss.
        clip: gradients whose total norm is larger are scaled down to this norm; None: never.
        precision: of the passes; None: full, or whatever autocast the caller is in.
        shards: how each batch is divided among processes, all of which train; None: it is not.
        first_step: how many steps were done before, for what the passes draw in each process.

    Returns:
        The mean loss per batch, each taken before its step.

    Raises:
        TrainingError: a loss is not a finite number (``nan-loss``); it has not changed the weights.
        ModelError: a backward pass would write out of bounds (``unsafe-convolution``); it has not
            been started.
        DataError: there is no batch (``no-batches``).

    Example:
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> train_epoch(model, batches(data.train, 32), cross_entropy, optimizer)
        2.31
    """
    model.train()
    passes, shards = precision or precision_of("float32", model), shards or Shards()
    is_compiled = any(isinstance(part, CompiledModel) for part in model.modules())
    losses: list[float] = []
    for batch, (inputs, target) in enumerate(input_target_pairs(batches)):
        shard = shards.of(inputs, target)
        with shards.drawing(first_step + batch):
            value = _forward(model, shard, loss, passes, is_compiled=is_compiled)
        # The loss of the whole batch: all processes go on, or none.
        losses.append(shards.mean(float(value.detach()), shard.weight))
        # Checked before the backward pass: one infinite gradient would spoil every weight.
        if not math.isfinite(losses[-1]):
            raise _not_finite(losses[-1], batch, optimizer)
        # None instead of zero: parameters without a gradient are not even decayed.
        optimizer.zero_grad(set_to_none=True)
        with errors_as(TrainingError, "bad-loss", "the loss has no gradient", _ADVICE):
            passes.backward(value if shards.is_alone else value * shard.weight)
        passes.step(optimizer, clip)
        on_step(batch, losses[-1])
    if not losses:
        raise DataError("no-batches", "there is no image to train on; give at least one")
    return sum(losses) / len(losses)


def _forward(
    model: nn.Module, shard: Shard, loss: LossFunction, passes: Precision, *, is_compiled: bool
) -> Tensor:
    """The loss of a batch, or of a part of it."""
    # Looks at the shapes of this forward pass, as an unsafe backward pass cannot be undone.
    # A compiled pass cannot be watched: the model was looked at before it was compiled.
    guard = nullcontext() if is_compiled else guard_unsafe_kernel(model)
    with guard, passes.autocast():
        output = run_on_batch(model, shard.inputs)
        return loss_of(loss, output, shard.target)


def _not_finite(value: float, batch: int, optimizer: Optimizer) -> TrainingError:
    rate = max(float(group["lr"]) for group in optimizer.param_groups)
    return TrainingError(
        "nan-loss",
        f"the training loss is {value} at batch {batch + 1} of this epoch, so training stops; "
        f"lower the learning rate (it is {rate:g} now) or check the data for such values",
    )
