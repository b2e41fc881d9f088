"""What the seconds that a growth took would have done as plain training."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import update_bn

from fxgrow.copying import copy_with_optimizer
from fxgrow.errors import TrainingError
from fxgrow.growth import Batch
from fxgrow.training.epoch import train_epoch
from fxgrow.training.evaluate import cross_entropy, evaluate


@dataclass(frozen=True)
class Control:
    """A growth step against training for the same time, by the loss on the test images.

    The statistics of batch norms are estimated anew before each of these losses is taken, on the
    same images.

    Args:
        steps: how many steps of the optimizer there was time for.
        loss_before: of the model before it grew.
        loss_grown: of the grown model.
        loss_trained: of the model that was trained instead; no number if training diverged.

    Example:
        >>> run.controls[0].loss_trained - run.controls[0].loss_grown
        -0.002
    """

    steps: int
    loss_before: float
    loss_grown: float
    loss_trained: float


def control(
    model: nn.Module,
    grown: nn.Module,
    optimizer: Optimizer,
    seconds: float,
    train: Iterable[Batch],
    statistics: Sequence[Batch],
    test: Iterable[Batch],
) -> Control:
    """Train a copy of a model for as long as its growth took, and compare.

    Args:
        model: as it was before it grew; it stays so.
        grown: the grown model; it stays as it is.
        optimizer: of ``model``, with the learning rate that it has; it stays as it is.
        seconds: how long; the last step may end later.
        train: training batches, taken again from the start when they run out.
        statistics: the growth batches, on which statistics of batch norms are estimated.
        test: test batches for the losses.

    Returns:
        The losses.
    """
    copied, its_optimizer = copy_with_optimizer(model, optimizer)
    inputs = [batch[0] for batch in statistics]
    before = _test_loss(copied, inputs, test)
    steps = 0

    def count(batch: int, _loss: float) -> None:
        nonlocal steps
        steps = batch + 1

    try:
        # The copy has an optimizer, as the model has one.
        train_epoch(copied, _for_seconds(train, seconds), cross_entropy, its_optimizer, count)  # type: ignore[arg-type]
        trained = _test_loss(copied, inputs, test)
    except TrainingError:
        trained = math.nan
    return Control(steps, before, evaluate(grown, test).loss, trained)


def _test_loss(model: nn.Module, inputs: Sequence[Tensor], test: Iterable[Batch]) -> float:
    """The loss with the statistics of some inputs."""
    update_bn(inputs, model)
    return evaluate(model, test).loss


def _for_seconds(batches: Iterable[Batch], seconds: float) -> Iterator[Batch]:
    """Batches without end until the time is over, but one at least."""
    end = time.perf_counter() + seconds
    while True:
        for batch in batches:
            yield batch
            if time.perf_counter() >= end:
                return
