"""The growth methods: what each costs, and where those of other packages are."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from fxgrow.methods import MethodRow
from fxgrow.report.style import cell_texts, make_table


def methods_tables(rows: Sequence[MethodRow], others: Mapping[str, str]) -> list[Table]:
    """One row per method: name, cost, whether it keeps the function, reference.

    Args:
        rows: fxgrow's own methods.
        others: the places of those of other packages, by name; they get a table if there are some.
    """
    own = make_table("Growth methods", "name", "cost", "keeps the function", "reference")
    for row in rows:
        own.add_row(*cell_texts(row.name, row.cost, row.keeps_function, row.reference))
    if not others:
        return [own]
    of_packages = make_table("Of installed packages", "name", "place")
    for name, place in others.items():
        of_packages.add_row(*cell_texts(name, place))
    return [own, of_packages]
