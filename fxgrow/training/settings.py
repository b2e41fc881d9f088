"""The settings of a run, and what follows from them."""

import math
from itertools import pairwise

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fxgrow.documents import limits
from fxgrow.errors import TrainingError


class RunSettings(BaseModel):
    """How long to train, how often to grow, and the settings of SGD.

    ``epochs`` are cut into ``grow_steps`` + 1 phases of equal length (to one epoch), with a growth between two phases.
    The learning rate follows half a cosine from ``lr`` to ``final_lr`` over the whole run (the same value: constant).
    ``growth_batches`` batches of ``growth_batch_size`` training images decide what grows; ``memory``: the bytes that a
    step over the candidates may keep (None: no bound).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(default=6, ge=-limits.EPOCHS, le=limits.EPOCHS)
    grow_steps: int = Field(default=2, ge=0, le=limits.GROWTH_STEPS)
    lr: float = Field(default=0.01, gt=0, le=limits.RATE)
    final_lr: float = Field(default=0.0, ge=0, le=limits.RATE)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0, le=limits.RATE)
    batch_size: int = Field(default=32, ge=1, le=limits.BATCH)
    growth_batches: int = Field(default=8, ge=1, le=limits.BATCHES)
    growth_batch_size: int = Field(default=64, ge=1, le=limits.BATCH)
    memory_limit: float | None = Field(default=None, gt=0, le=limits.MEMORY)
    seed: int = Field(default=0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _phases_have_epochs(self) -> "RunSettings":
        if self.epochs < 1:
            raise TrainingError(
                "no-epochs", f"{self.epochs} epochs train nothing; ask for 1 or more"
            )
        if self.epochs <= self.grow_steps:
            raise TrainingError(
                "too-few-epochs",
                f"{self.epochs} epochs are too few to train before, between and after {self.grow_steps} growth steps; "
                f"ask for at least {self.grow_steps + 1} epochs or for fewer growth steps",
            )
        return self

    @property
    def phases(self) -> tuple[int, ...]:
        """The number of epochs of every phase."""
        ends = [
            round(self.epochs * phase / (self.grow_steps + 1))
            for phase in range(self.grow_steps + 2)
        ]
        return tuple(end - start for start, end in pairwise(ends))

    def learning_rate(self, progress: float) -> float:
        """The learning rate when the share ``progress`` (0 to 1) of the run is done."""
        return self.final_lr + (self.lr - self.final_lr) * (1 + math.cos(math.pi * progress)) / 2
