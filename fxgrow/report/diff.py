"""What changed between two architectures."""

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fxgrow.report.numbers import NOTHING, count, number, ratio
from fxgrow.report.style import cells, table
from fxgrow.spec import SpecDiff

LISTED = 12


def diff_tables(diff: SpecDiff) -> tuple[RenderableType, ...]:
    """A table of widths, lines about layers and the cost; one line if nothing differs."""
    if diff.empty:
        return (Text("The two architectures are the same."),)
    widths = (_widths(diff),) if diff.widths else ()
    return (*widths, *_layers(diff), _cost(diff))


def _widths(diff: SpecDiff) -> Table:
    made = table(
        "Widths", "width", "before", "after", "split", "new", "score",
        right=("before", "after", "split", "new", "score"),
    )  # fmt: skip
    for width in diff.widths:
        sizes = (NOTHING if size is None else str(size) for size in (width.before, width.after))
        made.add_row(*cells(width.name, *sizes, str(width.split), str(width.new), number(width.score)))
    return made


def _layers(diff: SpecDiff) -> tuple[Text, ...]:
    parts = (("inserted", diff.inserted), ("removed", diff.removed), ("changed", [node.name for node in diff.changed]))
    lines = [Text(f"{word} nodes ({len(names)}): {_listed(names)}") for word, names in parts if names]
    return tuple(lines) or (Text("no layers inserted or removed"),)


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")


def _cost(diff: SpecDiff) -> Table:
    made = table("Cost", "", "before", "after", "ratio", right=("before", "after", "ratio"))
    before, after = diff.cost_before, diff.cost_after
    rows = (
        ("parameters", before.parameters, after.parameters),
        ("multiply-adds", before.multiply_adds, after.multiply_adds),
    )
    for name, old, new in rows:
        made.add_row(*cells(name, count(old), count(new), ratio(old, new)))
    return made
