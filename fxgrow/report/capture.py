"""How every part of a model was captured."""

from collections.abc import Iterable

from rich.table import Table

from fxgrow.capture import PartReport
from fxgrow.report.style import cells, table


def capture_table(parts: Iterable[PartReport]) -> Table:
    """One row per part: its path, whether it was traced or stays opaque, and why not better."""
    made = table("Capture", "part", "how", "why")
    for part in parts:
        made.add_row(*cells(part.module or "(whole model)", part.how.value, part.why))
    return made
