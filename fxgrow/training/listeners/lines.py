"""Logs of lines: appended one by one, each on the disk before the next, and rewound as a whole."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fxgrow.training.events import RunResumed

_DECISIONS = ("growth", "growth-skipped", "stopped-early")
_LAST = "run-ended"


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
