"""How every part of a model was captured."""

from collections.abc import Iterable

from rich.table import Table

from fxgrow.capture import PartReport
from fxgrow.report.style import cell_texts, make_table


def capture_table(parts: Iterable[PartReport], share: float | None = None) -> Table:
    """One row per part: its path, whether it was traced, exported or stays opaque, and why.

    Args:
        parts: the parts of a captured model.
        share: the share of the parameters that nodes of the graph use, for the title.

    Returns:
        A table for rich.
    """
    title = "Capture"
    if share is not None:
        title = f"Capture: {share:.0%} of the parameters lie in the graph"
    table = make_table(title, "part", "how", "why")
    for part in parts:
        table.add_row(*cell_texts(part.module or "(whole model)", part.how.value, part.why))
    return table
