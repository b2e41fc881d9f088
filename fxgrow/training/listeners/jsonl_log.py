"""``log.jsonl``: one JSON object per event, with its kind, written while the run goes on."""

import json
from pathlib import Path

from fxgrow.argument_checks import checked
from fxgrow.training.events import Event, RunResumed
from fxgrow.training.listeners.lines import append_line, is_before, rewind
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
            rewind(self.path, lambda line: is_before(json.loads(line), event))
            return
        row = row_of(event)
        if row is not None:
            # JSON has no NaN, and a line that cannot be read back is worse than an error.
            append_line(self.path, json.dumps(row.model_dump(mode="json"), allow_nan=False))
