"""One look for all tables."""

from rich import box
from rich.table import Table
from rich.text import Text

GOOD, BAD, DIM = "green", "red", "dim"


def make_table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table; ``right`` are the columns of numbers. Cells are rich ``Text`` or plain, never markup."""
    made = Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        highlight=False,
    )
    for name in columns:
        made.add_column(
            Text(name), justify="right" if name in right else "left", no_wrap=name in right
        )
    return made


def cell_texts(*words: str, style: str = "") -> tuple[Text, ...]:
    """Words as they are: names of layers may hold brackets, which rich would read as markup."""
    return tuple(Text(word, style=style) for word in words)
