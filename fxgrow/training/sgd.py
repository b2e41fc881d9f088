"""SGD with momentum and a cosine learning rate: the one way in which weights are trained.

Reference of the schedule: Loshchilov, Hutter, "SGDR: Stochastic Gradient Descent with Warm
Restarts", ICLR 2017, Eq. 5, without restarts.
"""

import math
from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Optimizer

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Finite, Positive, ScalarLoss, Trainable
from fxgrow.data import Batches, DataSet, batches
from fxgrow.documents import limits
from fxgrow.errors import DataError, TrainingError
from fxgrow.growth import Batch
from fxgrow.spec import StrictModel


@checked
def cosine_rate(initial: Finite, final: Finite, progress: Finite, total: Positive = 1.0) -> float:
    """Learning rate along half a cosine: ``initial`` at the start, ``final`` at the end.

    rate = final + (initial - final) * (1 + cos(pi * progress / total)) / 2

    Args:
        initial: rate at ``progress`` 0.
        final: rate at ``progress`` = ``total``.
        progress: how much of the training is done.
        total: how much there is to do, in the unit of ``progress``: 1 for a share, or a number of
            epochs.

    Returns:
        The learning rate.

    Example:
        >>> cosine_rate(0.5, 0.0, 0.5)
        0.25
        >>> cosine_rate(0.5, 0.0, 50, total=50)
        0.0
    """
    # Multiplied before it is divided, because results are compared to the bit: pi * (epoch / total)
    # would round differently. With a total of 1 the division is exact.
    angle = math.pi * progress / total
    return final + (initial - final) * (1 + math.cos(angle)) / 2


class WeightTraining(StrictModel):
    """Settings of the training of shared weights in a cell search, by default those of DARTS.

    The learning rate falls from ``lr`` to ``final_lr`` along half a cosine, epoch by epoch.

    Args:
        epochs: passes over the training images.
        batch_size: images per step, 2 or more because batch norm cannot be trained on one.
        lr: learning rate of the first epoch.
        final_lr: learning rate that the last epoch comes close to.
        momentum: momentum of SGD.
        weight_decay: L2 penalty of SGD.
        clip: gradients whose total norm is larger are scaled down to this norm.

    Raises:
        ArgumentError: ``bad-setting``: a value is out of range.

    Example:
        >>> settings = WeightTraining(epochs=10, lr=0.1, final_lr=0.0)
        >>> settings.learning_rate(epoch=5)
        0.05
    """

    epochs: int = Field(default=50, ge=1, le=limits.EPOCHS)
    batch_size: int = Field(default=64, ge=2, le=limits.BATCH)
    lr: float = Field(default=0.025, gt=0, le=limits.RATE)
    final_lr: float = Field(default=0.001, ge=0, le=limits.RATE)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=3e-4, ge=0, le=limits.RATE)
    clip: float = Field(default=5.0, gt=0, le=limits.RATE)

    @checked
    def learning_rate(self, epoch: Finite) -> float:
        """The learning rate of an epoch, counted from 0."""
        return cosine_rate(self.lr, self.final_lr, epoch, total=self.epochs)

    @checked
    def optimizer(self, model: Trainable) -> SGD:
        """SGD over all parameters of ``model`` with these settings."""
        return SGD(
            model.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
        )


@checked
def training_batches(data: DataSet, size: int, generator: torch.Generator) -> Batches:
    """Batches to train on: all images, in a new order every pass.

    A last batch of one image is left out because batch norm cannot be trained on one image, unless
    there is no other image at all.

    Args:
        data: the training images.
        size: images per batch.
        generator: draws the order of every pass.

    Returns:
        The batches, which can be iterated any number of times.

    Raises:
        DataError: ``size`` is below 1 (``batch-size``).

    Example:
        >>> data = DataSet(torch.zeros(5, 3, 8, 8), torch.zeros(5, dtype=torch.long))
        >>> len(training_batches(data, 2, torch.Generator().manual_seed(0)))
        2
    """
    leaves_one_over = size > 0 and len(data) % size == 1
    drop_last = leaves_one_over and len(data) > 1
    return batches(data, size, shuffle=True, generator=generator, drop_last=drop_last)


@checked
def shuffled(data: DataSet, size: int, generator: torch.Generator) -> Batches:
    """``training_batches``, of data that make at least one batch which batch norm can take.

    Args:
        data: the training images, two at least if ``size`` is two or more.
        size: images per batch.
        generator: draws the order of every pass.

    Returns:
        The batches, which can be iterated any number of times.

    Raises:
        DataError: there are too few images (``no-batches``), or ``size`` is below 1
            (``batch-size``).

    Example:
        >>> data = DataSet(torch.zeros(1, 3, 8, 8), torch.zeros(1, dtype=torch.long))
        >>> shuffled(data, 2, torch.Generator().manual_seed(0))
        Traceback (most recent call last):
        fxgrow.errors.DataError: 1 images make no batch to search on; give at least two
    """
    result = training_batches(data, size, generator)
    # Two images are enough: they make one batch, or two of one image each if that is asked for.
    if len(data) < min(size, 2):
        raise DataError(
            "no-batches", f"{len(data)} images make no batch to search on; give at least two"
        )
    return result


@checked
def endless(data: Batches) -> Iterator[Batch]:
    """Repeat the batches pass after pass, without an end.

    Args:
        data: batches that can be iterated any number of times; shuffled ones have a new order in
            every pass.

    Returns:
        An iterator over (images, labels) that never stops.

    Example:
        >>> validation = endless(shuffled(data, 64, generator))
        >>> images, labels = next(validation)
    """
    while True:
        yield from data


@checked
def set_rate(optimizer: Optimizer, rate: Finite) -> None:
    """Set the learning rate of all parameters.

    Args:
        optimizer: any optimizer of torch; changed in place.
        rate: the learning rate of all its parameter groups.

    Example:
        >>> set_rate(optimizer, settings.learning_rate(epoch))
    """
    for group in optimizer.param_groups:
        group["lr"] = rate


@checked
def sgd_step(optimizer: Optimizer, loss: ScalarLoss, clip: Positive) -> float:
    """Take one step down ``loss``. Weights that it does not depend on stay as they are.

    Args:
        optimizer: the optimizer of the weights.
        loss: a scalar with a graph to the weights.
        clip: gradients whose total norm is larger are scaled down to this norm.

    Returns:
        The value of the loss before the step.

    Raises:
        TrainingError: the loss is not a finite number (``nan-loss``); no weight has changed.

    Example:
        >>> loss = cross_entropy(model(images), labels)
        >>> value = sgd_step(optimizer, loss, clip=5.0)
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingError(
            "nan-loss",
            f"the loss of the shared weights is {value}, so the search stops; lower the learning "
            "rate",
        )
    # Gradients become None, not zero: SGD skips parameters without one, so weights outside the
    # chosen path feel neither weight decay nor momentum.
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    clip_gradients(optimizer, clip)
    optimizer.step()
    return value


def clip_gradients(optimizer: Optimizer, clip: float) -> None:
    """Scale the gradients of all weights down, so that their total norm is ``clip`` at most."""
    weights: list[Tensor] = []
    for group in optimizer.param_groups:
        weights.extend(group["params"])
    # One norm over all weights together.
    clip_grad_norm_(weights, clip)
