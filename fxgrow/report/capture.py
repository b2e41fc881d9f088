"""How every part of a model was captured."""

from collections.abc import Iterable

from rich.table import Table

from fxgrow.capture import PartReport
from fxgrow.report.style import cell_texts, make_table


def capture_table(parts: Iterable[PartReport], share: float | None = None) -> Table:
    """One row per part: its path, whether it was traced, exported or stays opaque, and why not better.

    ``share``: the share of the parameters that lie where the graph has nodes, for the title.
    """
    title = (
        "Capture" if share is None else f"Capture: {share:.0%} of the parameters lie in the graph"
    )
    made = make_table(title, "part", "how", "why")
    for part in parts:
        made.add_row(*cell_texts(part.module or "(whole model)", part.how.value, part.why))
    return made
