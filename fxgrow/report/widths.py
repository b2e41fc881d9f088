"""The widths of a model, and why some of them cannot grow."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from rich.table import Table
from rich.text import Text

from fxgrow.coupling import FixedAxis, Unreached
from fxgrow.report.numbers import quantity_text
from fxgrow.report.style import BAD, GOOD, cell_texts, make_table
from fxgrow.spec import WidthSpec

# The order in which a neuron passes them.
ROLES: tuple[Literal["writes", "carries", "reads"], ...] = ("writes", "carries", "reads")


SHOWN_AXES = 3
"""How many axes are shown for each reason; all of them are in the output as JSON."""


def widths_table(widths: Sequence[WidthSpec]) -> Table:
    """One row per width: name, size, rows per neuron, sites by role, growable or why not."""
    columns = ("width", "size", "granule", "sites", "growable")
    table = make_table("Widths", *columns, right=("size", "granule"))
    for width in widths:
        cells = cell_texts(width.name, str(width.size), str(width.granule), _sites(width))
        table.add_row(*cells, _verdict(width))
    return table


def _sites(width: WidthSpec) -> str:
    """The number of sites by role: ``2 writes, 1 reads``."""
    counts = Counter(site.role for site in width.sites)
    return ", ".join(f"{counts[role]} {role}" for role in ROLES if counts[role])


def _verdict(width: WidthSpec) -> Text:
    if width.refusal is None:
        return Text("yes", style=GOOD)
    nodes = f" [{', '.join(width.refusal.nodes)}]" if width.refusal.nodes else ""
    return Text(f"no, {width.refusal.code}: {width.refusal.reason}{nodes}", style=BAD)


def unreached_lines(unreached: Sequence[Unreached]) -> Text:
    """What no example reaches, a line for each module; empty if there is none.

    Args:
        unreached: what ``Coupling.unreached`` lists.

    Returns:
        The lines.
    """
    lines = []
    for module in unreached:
        lines.append(f"not reached: {module.module or 'model'} ({_consequence(module)})")
    return Text("\n".join(lines))


def _consequence(module: Unreached) -> str:
    if module.follows:
        return f"follows {module.follows}"
    if module.widths:
        return f"refuses {', '.join(module.widths)}"
    return "has no size of a width that could come there"


def widths_lines(widths: Iterable[WidthSpec]) -> Text:
    """How many widths and neurons can grow, in a line."""
    total, growable, neurons = 0, 0, 0
    for width in widths:
        total += 1
        if width.growable:
            growable += 1
            neurons += width.size
    return Text(
        f"{growable} of {quantity_text(total, 'width')} can grow, "
        f"{quantity_text(neurons, 'neuron')} in them"
    )


def fixed_axes_table(fixed_axes: Sequence[FixedAxis]) -> Table:
    """One row per reason why axes are in no width: how many they are, and the first of them."""
    table = make_table("Axes in no width", "reason", "axes", "such as", right=("axes",))
    by_reason: dict[str, list[str]] = {}
    for axis in fixed_axes:
        reason = f"{axis.refusal.code}: {axis.refusal.reason}"
        by_reason.setdefault(reason, []).append(f"{axis.parameter}[{axis.axis}]")
    for reason, names in by_reason.items():
        table.add_row(*cell_texts(reason, str(len(names)), ", ".join(names[:SHOWN_AXES])))
    return table
