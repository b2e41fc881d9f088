"""How the weights of one task are trained, which all methods do alike."""

import math
from collections.abc import Iterator
from typing import Protocol

from pydantic import Field
from torch import nn
from torch.optim import SGD, Optimizer

from fxgrow.documents import limits
from fxgrow.growth import Batch
from fxgrow.spec import StrictModel


class Loader(Protocol):
    """Batches of (input, class index) that can be gone through again and again, as torch's ``DataLoader`` is."""

    def __iter__(self) -> Iterator[Batch]: ...
    def __len__(self) -> int: ...


class TrainSettings(StrictModel):
    """SGD with momentum; the learning rate falls from ``lr`` to 0 along half a cosine over ``epochs``, step by step."""

    epochs: int = Field(default=15, ge=1, le=limits.EPOCHS)
    batch_size: int = Field(default=32, ge=2, le=limits.BATCH)
    lr: float = Field(default=0.05, gt=0, le=limits.RATE)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0, le=limits.RATE)

    def learning_rate(self, progress: float) -> float:
        """When the share ``progress`` (0 to 1) of the training is done."""
        return self.lr * (1 + math.cos(math.pi * progress)) / 2

    def optimizer(self, parameters: list[nn.Parameter]) -> SGD:
        """The optimiser of these parameters."""
        return SGD(parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)

    def set_rate(self, optimizer: Optimizer, progress: float) -> None:
        """The learning rate of all its parameters at that share of the training."""
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate(progress)
