"""The widths of a model, and why some of them cannot grow."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from rich.table import Table
from rich.text import Text

from fxgrow.report.numbers import quantity_text
from fxgrow.report.style import BAD, GOOD, cell_texts, make_table
from fxgrow.spec import WidthSpec

# The order in which a neuron passes them.
ROLES: tuple[Literal["writes", "carries", "reads"], ...] = ("writes", "carries", "reads")


def widths_table(widths: Sequence[WidthSpec]) -> Table:
    """One row per width: name, size, rows per neuron, sites by role, growable or the reason why not."""
    made = make_table(
        "Widths", "width", "size", "granule", "sites", "growable", right=("size", "granule")
    )
    for width in widths:
        made.add_row(
            *cell_texts(width.name, str(width.size), str(width.granule), _sites(width)),
            _verdict(width),
        )
    return made


def _sites(width: WidthSpec) -> str:
    counts = Counter(site.role for site in width.sites)
    return ", ".join(f"{counts[role]} {role}" for role in ROLES if counts[role])


def _verdict(width: WidthSpec) -> Text:
    if width.refusal is None:
        return Text("yes", style=GOOD)
    places = f" [{', '.join(width.refusal.nodes)}]" if width.refusal.nodes else ""
    return Text(f"no, {width.refusal.code}: {width.refusal.reason}{places}", style=BAD)


def widths_lines(widths: Iterable[WidthSpec]) -> Text:
    """How many widths and neurons can grow, in a line."""
    known = list(widths)
    growable = [width for width in known if width.growable]
    neurons = sum(width.size for width in growable)
    return Text(
        f"{len(growable)} of {quantity_text(len(known), 'width')} can grow, {quantity_text(neurons, 'neuron')} in them"
    )
