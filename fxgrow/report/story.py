"""What a log tells of a run: the beginning, the epochs, the growth steps, the end."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fxgrow.training import (
    EndRow,
    EpochRow,
    GrowthRow,
    LogRow,
    SkippedRow,
    StartRow,
    StoppedRow,
    find_log,
    read_log,
)

_Row = TypeVar("_Row", bound=LogRow)


@dataclass(frozen=True)
class Tested:
    """The loss and the accuracy on the test images; None where nobody measured."""

    loss: float | None
    accuracy: float | None


@dataclass(frozen=True)
class RunStory:
    """A run, finished or not, or a loop of somebody's own, by its log.

    Args:
        start: how it was started; None in a loop of somebody's own.
        epochs: what was measured after each.
        growths: the growth steps.
        skipped: those that were left out.
        end: how it ended; None if it has not, or if the log is of an earlier version.
        stopped: how it came to end early; None if it did not.
    """

    start: StartRow | None
    epochs: tuple[EpochRow, ...]
    growths: tuple[GrowthRow, ...]
    skipped: tuple[SkippedRow, ...]
    end: EndRow | None
    stopped: StoppedRow | None = None

    @staticmethod
    def of(rows: Iterable[LogRow]) -> "RunStory":
        """Sort the lines of a log."""
        kept = tuple(rows)
        starts, ends = _of_kind(kept, StartRow), _of_kind(kept, EndRow)
        stops = _of_kind(kept, StoppedRow)
        return RunStory(
            starts[0] if starts else None,
            _of_kind(kept, EpochRow),
            _of_kind(kept, GrowthRow),
            _of_kind(kept, SkippedRow),
            ends[-1] if ends else None,
            stops[-1] if stops else None,
        )

    @property
    def epochs_before_growth(self) -> tuple[EpochRow, ...]:
        """The epochs before the first growth step; without one, all of them."""
        first = self.growths[0].epoch if self.growths else None
        if not self.growths:
            return self.epochs
        if first is None:  # as in logs of the first versions
            return tuple(row for row in self.epochs if not row.phase)
        # Not by phases, which count growth steps that were left out, too.
        return tuple(row for row in self.epochs if row.epoch <= first)

    @property
    def before_growth(self) -> EpochRow | None:
        """The last epoch before the first growth step; without one, the last of all."""
        return (self.epochs_before_growth or self.epochs or (None,))[-1]

    @property
    def planned_epochs(self) -> int | None:
        """How many epochs it was to have; None if nobody said so."""
        planned = None if self.start is None else self.start.settings.get("epochs")
        return planned if isinstance(planned, int) else None

    @property
    def is_averaged(self) -> bool:
        """Whether what it gives are averaged weights (``ema`` with ``publish``)."""
        average = None if self.start is None else self.start.settings.get("ema")
        return isinstance(average, dict) and average.get("publish") is True

    def tested(self, row: EpochRow | GrowthRow) -> Tested:
        """What the network that the run would give now does on the test images.

        Args:
            row: an epoch or a growth step of it.
        """
        if self.is_averaged:
            return Tested(row.average_loss, row.average_accuracy)
        loss = row.test_loss if isinstance(row, EpochRow) else row.test_loss_after
        return Tested(loss, row.test_accuracy)

    @property
    def tested_at_last(self) -> Tested:
        """The same of the end; of a run without one, of its last epoch."""
        if self.end is not None:
            return Tested(self.end.after.test_loss, self.end.after.test_accuracy)
        return Tested(None, None) if self.last is None else self.tested(self.last)

    @property
    def last(self) -> EpochRow | None:
        """The last epoch."""
        return self.epochs[-1] if self.epochs else None

    @property
    def training_seconds(self) -> float:
        """Time of all epochs, as far as somebody measured it."""
        return sum(row.seconds or 0.0 for row in self.epochs)

    @property
    def growth_seconds(self) -> float:
        """Time of all growth steps."""
        return sum(row.seconds for row in self.growths)

    @property
    def first_parameters(self) -> int | None:
        """How many parameters there were at the beginning."""
        if self.start is not None:
            return self.start.parameters
        return self.growths[0].params_before if self.growths else None

    @property
    def last_multiply_adds(self) -> int | None:
        """How many multiply-adds a pass takes at the end; None if nobody counted them."""
        if self.growths:
            return self.growths[-1].multiply_adds
        return None if self.start is None else self.start.multiply_adds

    @property
    def last_parameters(self) -> int | None:
        """How many parameters there are at the end."""
        return self.growths[-1].params if self.growths else self.first_parameters


def read_story(directory: Path) -> RunStory:
    """Read what a run tells of itself.

    Args:
        directory: of a run, or any that holds a ``log.jsonl``; of a run that is not finished, the
            directory that it becomes.

    Returns:
        The run by its log.

    Raises:
        SpecError: there is no log, or it cannot be read; with the line that is wrong.
    """
    return RunStory.of(read_log(find_log(directory)))


def _of_kind(rows: Iterable[LogRow], kind: type[_Row]) -> tuple[_Row, ...]:
    return tuple(row for row in rows if isinstance(row, kind))
