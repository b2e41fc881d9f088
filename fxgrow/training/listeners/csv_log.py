"""``metrics.csv``: one row per epoch and growth step, for spreadsheets and data frames."""

import csv
import io
from pathlib import Path

from fxgrow.argument_checks import checked
from fxgrow.errors import SpecError
from fxgrow.training.events import Event, RunResumed
from fxgrow.training.listeners.lines import Row, append_line, rewind
from fxgrow.training.listeners.metrics import EPOCH_METRICS, GROWTH_METRICS, metrics_of

_PLACE = ("event", "epoch", "optimizer_step")
COLUMNS = (*_PLACE, *EPOCH_METRICS, *GROWTH_METRICS)
"""Of every such file, so that files of several runs fit together."""
_HEAD = ",".join(COLUMNS)


class CsvLog:
    """A listener that appends a row per epoch and growth step; what was not measured is empty.

    As with ``JsonlLog``, the file is complete at any moment, and rewound when a run is resumed.

    Args:
        path: the file; created with the first row.

    Example:
        >>> log = CsvLog(Path("runs/mine/metrics.csv"))
        >>> train_and_grow(model, data, settings, listeners=[log], **growth)
    """

    @checked
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, event: Event) -> None:
        """Append one event, if it measured something."""
        if isinstance(event, RunResumed):
            rewind(self.path, event, _parsed)
            return
        metrics = metrics_of(event)
        if metrics is None or metrics.event == "batch":
            return
        if not self.path.exists() or not self.path.stat().st_size:
            append_line(self.path, _HEAD)
        # The same columns in every row: an empty cell is what was not measured.
        place = (metrics.event, metrics.epoch, metrics.optimizer_step)
        values = [metrics.values.get(name, "") for name in COLUMNS[len(_PLACE) :]]
        append_line(self.path, _row([*place, *values]))


def _row(cells: list[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def _parsed(line: str) -> Row | None:
    """The row of a line; None for the names of the columns, which stay."""
    if line == _HEAD:
        return None
    try:
        kind, epoch, *_ = next(csv.reader([line]))
    except (csv.Error, ValueError, StopIteration) as error:
        raise SpecError("bad-value", f"it is no row of a run ({error}); move it away") from error
    return {"event": kind, "epoch": epoch}
