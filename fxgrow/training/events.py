"""The events of a run, and the protocol of those who hear them while it goes on.

``train_and_grow``, ``Grower`` and the command line all tell the same events to the same kind of
listener; ``training.listeners`` has those that write files or talk to a tracker.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fxgrow.growth import GrowthReport
from fxgrow.training.control import Control
from fxgrow.training.network import Evaluations
from fxgrow.training.settings import RunSettings


@dataclass(frozen=True)
class RunStarted:
    """The run begins.

    Args:
        settings: the settings of the run.
        batches_per_epoch: training steps in every epoch.
        parameters: number of parameters of the model.
        multiply_adds: of one pass over its example inputs; None if nobody counted them.

    Example:
        >>> def callback(event):
        ...     if isinstance(event, RunStarted):
        ...         print(event.settings.epochs, "epochs")
    """

    settings: RunSettings
    batches_per_epoch: int
    parameters: int
    multiply_adds: int | None = None


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
        optimizer_step: steps of the optimizer so far, this one included.

    Example:
        >>> def callback(event):
        ...     if isinstance(event, BatchDone):
        ...         print(event.loss)
    """

    epoch: int
    batch: int
    loss: float
    optimizer_step: int


@dataclass(frozen=True)
class EpochDone:
    """One epoch of training is done; of a loop of your own, what ``Grower.step`` was told.

    Args:
        epoch: number of the epoch, from 1.
        phase: number of growth steps before it.
        loss: mean training loss per batch.
        test_accuracy: accuracy on the test images at its end, from 0 to 1; None if nobody measured.
        lr: learning rate at its end; None without an optimizer.
        seconds: time of training, without the evaluation; None if nobody measured.
        average_accuracy: that of the moving average of the weights; None if there is none.
        optimizer_step: steps of the optimizer so far; 0 if nobody counts them.
        test_loss: mean loss on the test images; None if nobody measured.
        validation_loss: mean loss on images that are set aside; None if there are none.
        validation_accuracy: accuracy on them, from 0 to 1.
        average_loss: mean loss on the test images of the moving average; None if there is none.

    Example:
        >>> def callback(event):
        ...     if isinstance(event, EpochDone):
        ...         print(event.epoch, event.loss)
    """

    epoch: int
    phase: int
    loss: float
    test_accuracy: float | None = None
    lr: float | None = None
    seconds: float | None = None
    average_accuracy: float | None = None
    optimizer_step: int = 0
    test_loss: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    average_loss: float | None = None


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
class GrowthPhase:
    """A growth step has come to a phase of its work, or one step further in it.

    Args:
        step: number of the growth step, from 1.
        name: of the phase, as in ``GrowthReport.timings`` ("capture", "search", "emit").
        done: steps of the phase that are done, the one that begins included.
        total: how many it has; 0 if it is not made of steps.

    Example:
        >>> def callback(event):
        ...     if isinstance(event, GrowthPhase):
        ...         print(event.name, event.done, "of", event.total)
    """

    step: int
    name: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class GrowthDone:
    """A growth step is done.

    Args:
        step: number of the growth step, from 1.
        epoch: number of epochs done.
        report: what grew, and at what cost.
        test_accuracy: accuracy of the grown model on the test images, before it is trained on; None
            if nobody measured.
        control: what plain training would have done in the same time; None if nobody tried.
        optimizer_step: steps of the optimizer so far; 0 if nobody counts them.
        average_accuracy: that of the moving average of the weights, which has grown along; None if
            there is none.
        average_loss: its mean loss on the test images.

    Example:
        >>> def callback(event):
        ...     if isinstance(event, GrowthDone):
        ...         print(event.report)
    """

    step: int
    epoch: int
    report: GrowthReport
    test_accuracy: float | None = None
    control: Control | None = None
    optimizer_step: int = 0
    average_accuracy: float | None = None
    average_loss: float | None = None


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
        growth_steps_left: how many growth steps are left out by it, at most; a trigger that waits
            for something might have asked for fewer.

    Example:
        >>> def callback(event):
        ...     if isinstance(event, StoppedEarly):
        ...         print("stopped after", event.epoch, "epochs")
    """

    epoch: int
    patience: int
    growth_steps_left: int = 0


@dataclass(frozen=True)
class CheckpointSaved:
    """All that the run needs to go on from here is on the disk.

    Args:
        epoch: number of epochs done.
        directory: where the checkpoints lie.

    Example:
        >>> def callback(event):
        ...     if isinstance(event, CheckpointSaved):
        ...         print("kept after epoch", event.epoch)
    """

    epoch: int
    directory: Path


@dataclass(frozen=True)
class RunEnded:
    """The run is done, and nothing follows.

    Args:
        epoch: number of epochs done.
        before: evaluation just before the first growth step.
        after: evaluation at the end; the same object as ``before`` if nothing was grown.

    Example:
        >>> def callback(event):
        ...     if isinstance(event, RunEnded):
        ...         print(event.after.test.accuracy)
    """

    epoch: int
    before: Evaluations
    after: Evaluations


@dataclass(frozen=True)
class RunStopped:
    """The run ends before its time; the error that ends it passes on.

    Args:
        reason: what stopped it, in words.

    Example:
        >>> def callback(event):
        ...     if isinstance(event, RunStopped):
        ...         print(event.reason)
    """

    reason: str


# In the order in which a run meets them.
Event = (
    RunStarted
    | RunResumed
    | BatchDone
    | EpochDone
    | GrowthStarted
    | GrowthPhase
    | GrowthDone
    | GrowthSkipped
    | StoppedEarly
    | CheckpointSaved
    | RunEnded
    | RunStopped
)


class Listener(Protocol):
    """Hears every event of a run, in the order in which they happen; any function will do.

    It is called in between, so the run waits for it; what it raises ends the run.

    Example:
        >>> events = []
        >>> train_and_grow(model, data, settings, listeners=[events.append], **growth)
    """

    def __call__(self, event: Event, /) -> object:
        """Hear one event."""


def combine_listeners(listeners: Sequence[Listener]) -> Listener:
    """One listener for all of these, which hear each event in this order."""

    def tell(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return tell


@contextmanager
def stops_told_to(listener: Listener) -> Iterator[None]:
    """Tell a listener when the body raises, so that it can close what it holds open."""
    try:
        yield
    except BaseException as error:
        listener(RunStopped(f"{type(error).__name__}: {error}".rstrip(": ")))
        raise
