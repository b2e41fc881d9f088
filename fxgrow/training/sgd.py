"""How weights are trained in a search, which all methods that train do alike: SGD with momentum and a cosine."""

import math
from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Optimizer

from fxgrow.data import Batches, DataSet, batches
from fxgrow.documents import limits
from fxgrow.errors import DataError, TrainingError
from fxgrow.growth import Batch
from fxgrow.spec import StrictModel


class WeightTraining(StrictModel):
    """Settings of the shared weights, by default those of DARTS.

    The learning rate falls from ``lr`` to ``final_lr`` along half a cosine, epoch by epoch; gradients are scaled down
    to the norm ``clip``.
    """

    epochs: int = Field(default=50, ge=1, le=limits.EPOCHS)
    batch_size: int = Field(default=64, ge=2, le=limits.BATCH)
    lr: float = Field(default=0.025, gt=0, le=limits.RATE)
    final_lr: float = Field(default=0.001, ge=0, le=limits.RATE)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=3e-4, ge=0, le=limits.RATE)
    clip: float = Field(default=5.0, gt=0, le=limits.RATE)

    def learning_rate(self, epoch: int) -> float:
        """In an epoch, counted from 0."""
        return (
            self.final_lr
            + (self.lr - self.final_lr) * (1 + math.cos(math.pi * epoch / self.epochs)) / 2
        )

    def optimizer(self, model: nn.Module) -> SGD:
        """The optimiser of the weights."""
        return SGD(
            model.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
        )


def shuffled(data: DataSet, size: int, generator: torch.Generator) -> Batches:
    """All images in a new order every pass; a last batch of one is left out, batch norm cannot take it.

    Raises ``DataError`` (``no-batches``) if nothing is left.
    """
    found = batches(data, size, shuffle=True, generator=generator, drop_last=len(data) % size == 1)
    if not len(found):
        raise DataError(
            "no-batches", f"{len(data)} images make no batch to search on; give at least two"
        )
    return found


def endless(data: Batches) -> Iterator[Batch]:
    """Pass after pass."""
    while True:
        yield from data


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """The learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def sgd_step(optimizer: Optimizer, loss: Tensor, clip: float) -> float:
    """One step down ``loss``; gives its value. Weights that it does not depend on stay as they are.

    Raises ``TrainingError`` (``nan-loss``) before a loss that is no finite number can reach the weights.
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingError(
            "nan-loss",
            f"the loss of the shared weights is {value}, so the search stops; lower the learning rate",
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    clip_grad_norm_(
        [weight for group in optimizer.param_groups for weight in group["params"]], clip
    )
    optimizer.step()
    return value
