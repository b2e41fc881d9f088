"""Logs of lines: appended one by one, each on the disk before the next, and rewound as a whole."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fxgrow.argument_checks import checked
from fxgrow.training.events import Event, RunResumed

_DECISIONS = ("growth", "growth-skipped", "stopped-early")
_LAST = "run-ended"


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
            rewind(self.path, lambda line: self._is_kept(line, event))
            return
        line = self._line(event)
        if line is not None:
            append_line(self.path, line)

    @abstractmethod
    def _line(self, event: Event) -> str | None:
        """What is written of an event, without the end of the line; None for nothing."""

    @abstractmethod
    def _is_kept(self, line: str, event: RunResumed) -> bool:
        """Whether a line lies before the checkpoint that a run goes on from."""


def append_line(path: Path, line: str) -> None:
    """Append a line to a file that may not be there yet, and wait until it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())  # no checkpoint is on the disk before its log is


def rewind(path: Path, is_kept: Callable[[str], bool]) -> None:
    """Keep some lines of a file; a last line that is half written is never kept."""
    lines = []
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    for line in text.splitlines(keepends=True):
        if line.endswith("\n") and is_kept(line):
            lines.append(line)
    rewound = path.with_suffix(".partial")
    rewound.write_text("".join(lines), encoding="utf-8")
    # By one rename: a process that is killed here must not lose the log.
    rewound.replace(path)


def is_before(row: Mapping[str, Any], event: RunResumed) -> bool:
    """Whether a line of a log lies before a checkpoint.

    Args:
        row: the line, with the kind of its ``event`` and its ``epoch``.
        event: the run goes on from that checkpoint.
    """
    kind, epoch = row.get("event"), int(row.get("epoch", 0))
    if kind == _LAST:  # the run ends once more
        return False
    # Before a decision, the growth step of this epoch has not happened yet.
    if kind in _DECISIONS and event.undecided:
        return epoch < event.epochs
    return epoch <= event.epochs
