"""One pass of plain training."""

import math
from collections.abc import Callable, Iterable

from torch import nn
from torch.optim import Optimizer

from fxgrow.errors import DataError, TrainingError
from fxgrow.growth import Batch, LossFunction
from fxgrow.kernel_guard import guard_unsafe_kernel

OnStep = Callable[[int, float], None]


def _nothing(batch: int, loss: float) -> None:
    """Listen to nothing."""


def train_epoch(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: LossFunction,
    optimizer: Optimizer,
    on_step: OnStep = _nothing,
) -> float:
    """Train ``model`` on every batch once and give back the mean loss per batch.

    ``on_step(batch, loss)`` is called after every step of ``optimizer``, batches counted from 0. Raises
    ``TrainingError`` (``nan-loss``) before a loss that is no finite number can reach the weights, and ``ModelError``
    (``unsafe-convolution``) before a backward pass that would write beyond its memory.
    """
    model.train()
    losses: list[float] = []
    for batch, (inputs, target) in enumerate(batches):
        with guard_unsafe_kernel(model):
            value = loss(model(inputs), target)
        losses.append(float(value.detach()))
        if not math.isfinite(losses[-1]):
            raise _not_finite(losses[-1], batch, optimizer)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        on_step(batch, losses[-1])
    if not losses:
        raise DataError("no-batches", "there is no image to train on; give at least one")
    return sum(losses) / len(losses)


def _not_finite(value: float, batch: int, optimizer: Optimizer) -> TrainingError:
    rate = max(float(group["lr"]) for group in optimizer.param_groups)
    return TrainingError(
        "nan-loss",
        f"the training loss is {value} at batch {batch + 1} of this epoch, so training stops; lower the learning "
        f"rate (it is {rate:g} now) or check the data for such values",
    )
