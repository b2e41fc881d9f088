"""What a run tells while it goes on."""

from collections.abc import Callable
from dataclasses import dataclass

from fxgrow.growth import GrowthReport
from fxgrow.training.settings import RunSettings


@dataclass(frozen=True)
class RunStarted:
    """The run begins: its settings and the size of the model."""

    settings: RunSettings
    batches_per_epoch: int
    parameters: int


@dataclass(frozen=True)
class BatchDone:
    """One step of the optimiser; ``epoch`` and ``batch`` count from 1."""

    epoch: int
    batch: int
    loss: float


@dataclass(frozen=True)
class EpochDone:
    """One epoch: mean training loss, accuracy on the test images, learning rate at its end, seconds of training."""

    epoch: int
    phase: int
    loss: float
    test_accuracy: float
    lr: float
    seconds: float


@dataclass(frozen=True)
class GrowthStarted:
    """A growth step begins; ``step`` counts from 1."""

    step: int
    epoch: int


@dataclass(frozen=True)
class GrowthDone:
    """A growth step is done; ``test_accuracy`` is that of the grown model, before it is trained on."""

    step: int
    epoch: int
    report: GrowthReport
    test_accuracy: float


Event = RunStarted | BatchDone | EpochDone | GrowthStarted | GrowthDone
Listener = Callable[[Event], None]


def no_callback(event: Event) -> None:
    """Listen to nothing."""
