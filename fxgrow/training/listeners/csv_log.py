"""``metrics.csv``: one row per epoch and growth step, for spreadsheets and data frames."""

import csv
import io
from collections.abc import Iterable, Sequence

from fxgrow.errors import SpecError
from fxgrow.training.events import Event
from fxgrow.training.listeners.lines import LineLog, Row
from fxgrow.training.listeners.metrics import EPOCH_METRICS, GROWTH_METRICS, metrics_of

_PLACE = ("event", "epoch", "optimizer_step")
COLUMNS = (*_PLACE, *EPOCH_METRICS, *GROWTH_METRICS)
"""Of every file that is begun, so that files of several runs fit together."""


class CsvLog(LineLog):
    """A listener that appends a row per epoch and growth step; what was not measured is empty.

    As with ``JsonlLog``, the file is complete at any moment, and rewound when a run is resumed.

    Args:
        path: the file; created with the first row.

    Example:
        >>> log = CsvLog(Path("runs/mine/metrics.csv"))
        >>> train_and_grow(model, data, settings, listeners=[log], **growth)
    """

    def _line(self, event: Event) -> str | None:
        metrics = metrics_of(event)
        if metrics is None or metrics.event == "batch":
            return None
        columns = self._columns()
        # The same columns in every row: an empty cell is what was not measured.
        place = (metrics.event, metrics.epoch, metrics.optimizer_step)
        values: dict[str, object] = {**metrics.values, **dict(zip(_PLACE, place, strict=True))}
        row = _row(values.get(name, "") for name in columns or COLUMNS)
        return row if columns else f"{_row(COLUMNS)}\n{row}"

    def _columns(self) -> Sequence[str]:
        """Those of the file, which an earlier version may have begun; none before the first row."""
        if not self.path.exists():
            return ()
        with self.path.open(encoding="utf-8", newline="") as file:
            return next(csv.reader(file), ())

    def _parsed(self, line: str) -> Row | None:
        try:
            kind, epoch, *_ = next(csv.reader([line]))
        except (csv.Error, ValueError, StopIteration) as error:
            raise SpecError(
                "bad-value", f"it is no row of a run ({error}); move it away"
            ) from error
        is_head = (kind, epoch) == _PLACE[:2]
        return None if is_head else {"event": kind, "epoch": epoch}


def _row(cells: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()
