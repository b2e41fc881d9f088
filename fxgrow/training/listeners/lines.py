"""Logs of lines: appended one by one, each on the disk before the next, and rewound as a whole."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fxgrow.argument_checks import checked
from fxgrow.documents import read_text
from fxgrow.errors import SpecError
from fxgrow.training.events import Event, RunResumed

_DECISIONS = ("growth", "growth-skipped", "stopped-early")
_LAST = "run-ended"
_MAX_BYTES = 2**30
"""Bytes of a log that is rewound; it grows by one line per epoch and growth step."""

Row = Mapping[str, Any]
"""A line of a log, with the kind of its ``event`` and its ``epoch``."""


class LineLog(ABC):
    """A listener that appends what it is told to a file, line by line.

    The file is opened anew for every event, so a run that is interrupted leaves a complete log.
    When it goes on from a checkpoint, what was logged after that one is dropped: it happens again.

    Args:
        path: the file; created with the first line.
    """

    @checked
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, event: Event) -> None:
        """Append one event, if its kind is logged."""
        if isinstance(event, RunResumed):
            rewind(self.path, event, self._parsed)
            return
        line = self._line(event)
        if line is not None:
            append_line(self.path, line)

    @abstractmethod
    def _line(self, event: Event) -> str | None:
        """What is written of an event, without the end of the line; None for nothing."""

    @abstractmethod
    def _parsed(self, line: str) -> Row | None:
        """The row of a line; None for one that is kept always."""


def append_line(path: Path, line: str) -> None:
    """Append a line to a file that may not be there yet, and wait until it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())  # no checkpoint is on the disk before its log is


def rewind(path: Path, event: RunResumed, parse: Callable[[str], Row | None]) -> None:
    """Drop the lines of a log that lie behind a checkpoint, and one that is half written.

    Args:
        path: the file; it may be missing.
        event: the run goes on from that checkpoint.
        parse: makes a row of a line; None for one that is kept always.

    Raises:
        SpecError: a line is none that a run has written; or the file cannot be read.
    """
    lines = []
    text = read_text(path, _MAX_BYTES) if path.exists() else ""
    # Not by ``splitlines``: a name of the user's may hold what it takes for the end of a line.
    *whole, _half = text.split("\n")
    for number, line in enumerate(whole, start=1):
        if _is_kept(line, event, parse, f"{path.name}, line {number}"):
            lines.append(line + "\n")
    rewound = path.with_suffix(".partial")
    rewound.write_text("".join(lines), encoding="utf-8")
    # By one rename: a process that is killed here must not lose the log.
    rewound.replace(path)


def _is_kept(line: str, event: RunResumed, parse: Callable[[str], Row | None], place: str) -> bool:
    try:
        row = parse(line)
        return row is None or _is_before(row, event)
    except SpecError as error:
        raise SpecError(error.code, str(error), place) from error
    except (ValueError, TypeError, OverflowError) as error:  # of an epoch that is no number
        raise SpecError(
            "bad-value", f"it is no event of a run ({error}); move the log away", place
        ) from error


def _is_before(row: Row, event: RunResumed) -> bool:
    """Whether a line of a log lies before a checkpoint."""
    kind, epoch = row.get("event"), int(row.get("epoch", 0))
    if kind == _LAST:  # the run ends once more
        return False
    # Before a decision, the growth step of this epoch has not happened yet.
    if kind in _DECISIONS and event.undecided:
        return epoch < event.epochs
    return epoch <= event.epochs
