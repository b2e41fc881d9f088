"""What a bigger model has more than the smaller one whose function it starts with."""

from rich.table import Table
from rich.text import Text

from fxgrow.growth import Expanded
from fxgrow.report.style import cell_texts, make_table


def expansion_table(expanded: Expanded) -> Table:
    """One row per width that grew and per new block.

    Args:
        expanded: what ``fxgrow.grow_to`` gave.

    Returns:
        The table: name, neurons before and after, or the block that a new one started from.
    """
    table = make_table("Grown", "what", "before", "after", "how", right=("before", "after"))
    for name, count in expanded.amounts.items():
        before = expanded.sizes[name]
        table.add_row(*cell_texts(name, str(before), str(before + count), "neurons"))
    # A block has no size: it was not there, and is one now.
    for path, source in expanded.new_blocks.items():
        table.add_row(*cell_texts(path, "0", "1", f"block, starts as the identity beside {source}"))
    return table


def expansion_line(expanded: Expanded) -> Text:
    """Whether the bigger model computes what the smaller one does."""
    if expanded.preservation_error is None:
        return Text(f"not compared: {expanded.unchecked}")
    return Text(
        f"the same function: off by {expanded.preservation_error:.1e} of the largest output"
    )
