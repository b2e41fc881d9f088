"""How the weights of one task are trained, which all methods do alike."""

import math
from collections.abc import Iterator
from typing import Protocol

from pydantic import Field
from torch.optim import SGD, Optimizer

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Finite, Parameters
from fxgrow.documents import limits
from fxgrow.growth import Batch
from fxgrow.spec import StrictModel
from fxgrow.training import set_rate


class Loader(Protocol):
    """Batches of (input, class index) that can be iterated over several times.

    Torch's ``DataLoader`` is one, and so is a list of batches.

    Example:
        >>> loader: Loader = [(torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]))]
    """

    def __iter__(self) -> Iterator[Batch]: ...
    def __len__(self) -> int: ...


class TrainSettings(StrictModel):
    """Settings of SGD with momentum.

    The learning rate falls from ``lr`` to 0 along half a cosine over all epochs, step by step.

    Args:
        epochs: how often every image is seen.
        batch_size: images per step.
        lr: the learning rate of the first step.
        momentum: the momentum of SGD.
        weight_decay: the weight decay of SGD.

    Example:
        >>> TrainSettings(epochs=3, lr=0.1).learning_rate(0.5)
        0.05
    """

    epochs: int = Field(default=15, ge=1, le=limits.EPOCHS)
    batch_size: int = Field(default=32, ge=2, le=limits.BATCH)
    lr: float = Field(default=0.05, gt=0, le=limits.RATE)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0, le=limits.RATE)

    @checked
    def learning_rate(self, progress: Finite) -> float:
        """Compute the learning rate.

        Args:
            progress: the share of the training that is done, from 0 to 1.

        Returns:
            The learning rate of the next step.
        """
        return self.lr * (1 + math.cos(math.pi * progress)) / 2

    @checked
    def optimizer(self, parameters: Parameters) -> SGD:
        """Make the optimizer of these parameters."""
        return SGD(parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)

    @checked
    def set_rate(self, optimizer: Optimizer, progress: Finite) -> None:
        """Set the learning rate of all parameters.

        Args:
            optimizer: the optimizer.
            progress: the share of the training that is done, from 0 to 1.
        """
        set_rate(optimizer, self.learning_rate(progress))
