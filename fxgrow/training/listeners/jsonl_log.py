"""``log.jsonl``: one JSON object per event, with its kind, written while the run goes on."""

import json

from fxgrow.documents import parse_json
from fxgrow.errors import SpecError
from fxgrow.training.events import Event
from fxgrow.training.listeners.lines import LineLog, Row
from fxgrow.training.log_rows import row_of


class JsonlLog(LineLog):
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

    def _line(self, event: Event) -> str | None:
        row = row_of(event)
        if row is None:
            return None
        # JSON has no NaN, and a line that cannot be read back is worse than an error.
        return json.dumps(row.model_dump(mode="json"), allow_nan=False)

    def _parsed(self, line: str) -> Row | None:
        row = parse_json(line)
        if not isinstance(row, dict):
            raise SpecError("bad-value", "it is no event of a run; move the log away")
        return row
