"""The events of a run, which a listener is called with while the run goes on."""

from collections.abc import Callable
from dataclasses import dataclass

from fxgrow.growth import GrowthReport
from fxgrow.training.control import Control
from fxgrow.training.settings import RunSettings


@dataclass(frozen=True)
class RunStarted:
    """The run begins.

    Args:
        settings: the settings of the run.
        batches_per_epoch: training steps in every epoch.
        parameters: number of parameters of the model.

    Example:
        >>> def callback(event):
        ...     if isinstance(event, RunStarted):
        ...         print(event.settings.epochs, "epochs")
    """

    settings: RunSettings
    batches_per_epoch: int
    parameters: int


@dataclass(frozen=True)
class RunResumed:
    """A run that was stopped goes on from a checkpoint.

    Args:
        settings: the settings of the run.
        batches_per_epoch: training steps in every epoch.
        epochs: how many epochs are done.
        undecided: whether the trigger is asked again that was asked after the last of them.

    Example:
        >>> def callback(event):
        ...     if isinstance(event, RunResumed):
        ...         print("on from epoch", event.epochs)
    """

    settings: RunSettings
    batches_per_epoch: int
    epochs: int
    undecided: bool


@dataclass(frozen=True)
class BatchDone:
    """One step of the optimizer is done.

    Args:
        epoch: number of the epoch, from 1.
        batch: number of the batch in its epoch, from 1.
        loss: loss of the batch before the step.

    Example:
        >>> def callback(event):
        ...     if isinstance(event, BatchDone):
        ...         print(event.loss)
    """

    epoch: int
    batch: int
    loss: float


@dataclass(frozen=True)
class EpochDone:
    """One epoch of training is done.

    Args:
        epoch: number of the epoch, from 1.
        phase: number of growth steps before it.
        loss: mean training loss per batch.
        test_accuracy: accuracy on the test images at its end, from 0 to 1.
        lr: learning rate at its end.
        seconds: time of training, without the evaluation.
        average_accuracy: the same of the moving average of the weights; None if there is none.

    Example:
        >>> def callback(event):
        ...     if isinstance(event, EpochDone):
        ...         print(event.epoch, event.test_accuracy)
    """

    epoch: int
    phase: int
    loss: float
    test_accuracy: float
    lr: float
    seconds: float
    average_accuracy: float | None = None


@dataclass(frozen=True)
class GrowthStarted:
    """A growth step begins.

    Args:
        step: number of the growth step, from 1.
        epoch: number of epochs done.

    Example:
        >>> def callback(event):
        ...     if isinstance(event, GrowthStarted):
        ...         print("growth step", event.step)
    """

    step: int
    epoch: int


@dataclass(frozen=True)
class GrowthDone:
    """A growth step is done.

    Args:
        step: number of the growth step, from 1.
        epoch: number of epochs done.
        report: what grew, and at what cost.
        test_accuracy: accuracy of the grown model on the test images, before it is trained on.
        control: what plain training would have done in the same time.

    Example:
        >>> def callback(event):
        ...     if isinstance(event, GrowthDone):
        ...         print(event.report)
    """

    step: int
    epoch: int
    report: GrowthReport
    test_accuracy: float
    control: Control


@dataclass(frozen=True)
class GrowthSkipped:
    """A growth step would have gained nothing, so training goes on with the model as it is.

    Args:
        step: number of the growth step, from 1.
        epoch: number of epochs done.
        reason: why, in a sentence.

    Example:
        >>> def callback(event):
        ...     if isinstance(event, GrowthSkipped):
        ...         print(event.reason)
    """

    step: int
    epoch: int
    reason: str


@dataclass(frozen=True)
class StoppedEarly:
    """The run ends before all of its epochs are over.

    Args:
        epoch: number of epochs done.
        patience: more epochs than these were without a better validation loss.

    Example:
        >>> def callback(event):
        ...     if isinstance(event, StoppedEarly):
        ...         print("stopped after", event.epoch, "epochs")
    """

    epoch: int
    patience: int


Event = (  # in the order in which a run meets them
    RunStarted
    | RunResumed
    | BatchDone
    | EpochDone
    | GrowthStarted
    | GrowthDone
    | GrowthSkipped
    | StoppedEarly
)
Listener = Callable[[Event], None]
"""A function that is called with every event, in the order in which they happen."""


def no_callback(event: Event) -> None:
    """Ignore every event."""
