"""``log.jsonl``: one JSON object per event, with its kind, written while the run goes on."""

import json
from pathlib import Path
from typing import Any

from fxgrow.argument_checks import checked
from fxgrow.documents import parse_json
from fxgrow.errors import SpecError
from fxgrow.training.events import Event, RunResumed
from fxgrow.training.listeners.lines import append_line, rewind
from fxgrow.training.log_rows import row_of


class JsonlLog:
    """A listener that appends events to a file, one JSON object per line.

    The file is opened anew for every event, so a run that is interrupted leaves a complete log.
    When it goes on from a checkpoint, what was logged after that one is dropped: it happens again.
    ``read_log`` reads it, and ``fxgrow report`` shows the directory that it lies in.

    Args:
        path: the file; created with the first event.

    Example:
        >>> log = JsonlLog(Path("runs/mine/log.jsonl"))
        >>> train_and_grow(model, data, settings, listeners=[log], **growth)
    """

    @checked
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, event: Event) -> None:
        """Append one event, if its kind is logged."""
        if isinstance(event, RunResumed):
            rewind(self.path, event, _row)
            return
        row = row_of(event)
        if row is not None:
            # JSON has no NaN, and a line that cannot be read back is worse than an error.
            append_line(self.path, json.dumps(row.model_dump(mode="json"), allow_nan=False))


def _row(line: str) -> dict[str, Any]:
    row = parse_json(line)
    if not isinstance(row, dict):
        raise SpecError("bad-value", "it is no event of a run; move the log away")
    return row
