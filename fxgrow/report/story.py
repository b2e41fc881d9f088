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
    find_log,
    read_log,
)

_Row = TypeVar("_Row", bound=LogRow)


@dataclass(frozen=True)
class RunStory:
    """A run, finished or not, or a loop of somebody's own, by its log.

    Args:
        start: how it was started; None in a loop of somebody's own.
        epochs: what was measured after each.
        growths: the growth steps.
        skipped: those that were left out.
        end: how it ended; None if it has not, or if the log is of an earlier version.
    """

    start: StartRow | None
    epochs: tuple[EpochRow, ...]
    growths: tuple[GrowthRow, ...]
    skipped: tuple[SkippedRow, ...]
    end: EndRow | None

    @staticmethod
    def of(rows: Iterable[LogRow]) -> "RunStory":
        """Sort the lines of a log."""
        kept = tuple(rows)
        starts, ends = _of_kind(kept, StartRow), _of_kind(kept, EndRow)
        return RunStory(
            starts[0] if starts else None,
            _of_kind(kept, EpochRow),
            _of_kind(kept, GrowthRow),
            _of_kind(kept, SkippedRow),
            ends[-1] if ends else None,
        )

    @property
    def before_growth(self) -> EpochRow | None:
        """The last epoch before the first growth step; without one, the last of all."""
        # Phases count the growth steps before an epoch.
        earlier = [row for row in self.epochs if not row.phase]
        return (earlier or self.epochs or (None,))[-1]

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
