"""What the seconds that a growth took would have done as plain training."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from fxgrow.capture import capture
from fxgrow.copying import copy_with_optimizers
from fxgrow.errors import TrainingError
from fxgrow.growth import Batch, LossFunction, Objective, frozen_statistics, refresh_statistics
from fxgrow.modes import evaluation_mode
from fxgrow.training.epoch import train_epoch
from fxgrow.training.evaluate import cross_entropy
from fxgrow.training.precision import Precision
from fxgrow.training.shards import Shards


@dataclass(frozen=True)
class Control:
    """A growth step against training for the same time, by the loss on the test images.

    All three models have statistics of batch norms that were estimated in the same way, on the same
    growth batches.

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
    optimizer: Optimizer,
    loss_grown: float,
    seconds: float,
    train: Iterable[Batch],
    statistics: Sequence[Batch],
    test: Iterable[Batch],
    *,
    trained_loss: LossFunction = cross_entropy,
    clip: float | None = None,
    precision: Precision | None = None,
    shards: Shards | None = None,
) -> Control:
    """Train a copy of a model for as long as its growth took, and compare.

    Args:
        model: as it was before it grew; it stays so.
        optimizer: of ``model``, with the learning rate that it has; it stays as it is.
        loss_grown: of the grown model on the test images.
        seconds: how long; the last step may end later.
        train: training batches, taken again from the start when they run out.
        statistics: those on which growth estimated the statistics of batch norms.
        test: test batches for the losses.
        trained_loss: what is trained; all losses of the result are cross entropies.
        clip: gradients whose total norm is larger are scaled down to this norm.
        precision: of the passes of training; None: full.
        shards: how batches are divided among processes, the first of which has the clock.

    Returns:
        The losses.
    """
    shards = shards or Shards()
    copied, (its_optimizer,) = copy_with_optimizers(model, [optimizer])
    graph_module = capture(copied, (statistics[0][0],)).graph_module  # of the modules of the copy
    objective = Objective(list(statistics), cross_entropy, ranks=shards.ranks)
    frozen = frozen_statistics(copied)

    def test_loss() -> float:
        shards.share_buffers(copied)
        with evaluation_mode(copied):
            refresh_statistics(graph_module, objective, frozen)
        return shards.evaluate(copied, test).loss

    before, steps = test_loss(), 0

    def count(batch: int, _loss: float) -> None:
        nonlocal steps
        steps = batch + 1

    wrapped, limited = shards.wrapped(copied), _for_seconds(train, seconds, shards)
    try:
        train_epoch(wrapped, limited, trained_loss, its_optimizer, count, clip, precision, shards)
        trained = test_loss()
    except TrainingError:
        trained = math.nan
    return Control(steps, before, loss_grown, trained)


def _for_seconds(batches: Iterable[Batch], seconds: float, shards: Shards) -> Iterator[Batch]:
    """Batches without end until the time is over, but one at least."""
    end = time.perf_counter() + seconds
    while True:
        for batch in batches:
            yield batch
            if shards.ranks.decided(time.perf_counter() >= end):
                return
