"""One look for all tables."""

from rich import box
from rich.table import Table
from rich.text import Text

GOOD, BAD, DIM = "green", "red", "dim"


def make_table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table.

    Args:
        title: stands above it.
        columns: their heads. Heads and cells are rich ``Text``, never markup.
        right: the columns of numbers, which are aligned to the right and never wrapped.

    Returns:
        The table, to which rows are added.
    """
    table = Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        highlight=False,
    )
    for name in columns:
        is_number = name in right
        table.add_column(Text(name), justify="right" if is_number else "left", no_wrap=is_number)
    return table


def cell_texts(*words: str, style: str = "") -> tuple[Text, ...]:
    """Words as they are: names of layers may hold brackets, which rich would read as markup."""
    return tuple(Text(word, style=style) for word in words)
