"""Every method has a row, the page has a section for each row, and its code runs."""

import re
from pathlib import Path

import pytest

from fxgrow.methods import CATALOG, METHODS, MethodRow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
CONTROLS = ["from_scratch"]


def section(row: MethodRow) -> str:
    """What docs/methods.md has to say of a method."""
    return (
        f"## {row.name}\n\n"
        f"- *Reference:* {row.reference}.\n"
        f"- *Equation:* `{row.equation}`\n"
        f"- *Cost:* {row.cost}.\n"
        f"- *When:* {row.use}.\n"
        f"- *Keeps the function:* {row.keeps_function}.\n"
    )


def test_every_method_has_a_row() -> None:
    assert [row.name for row in CATALOG] == [*METHODS, *CONTROLS]


@pytest.mark.parametrize("row", CATALOG, ids=lambda row: row.name)
def test_the_page_says_what_the_row_says(row: MethodRow) -> None:
    assert section(row) in PAGE, f"docs/methods.md lacks this section:\n\n{section(row)}"


def test_the_page_has_no_other_sections() -> None:
    assert re.findall(r"^## (.+)$", PAGE, re.MULTILINE) == [row.name for row in CATALOG]


@pytest.mark.parametrize("row", CATALOG, ids=lambda row: row.name)
def test_who_keeps_the_function_says_so(row: MethodRow) -> None:
    """The pipeline is told by ``keeps_function``, people by the row."""
    says = row.keeps_function.startswith("yes")
    assert says or row.keeps_function.startswith("no: ")
    if row.name in METHODS:
        assert getattr(METHODS[row.name](), "keeps_function", False) == says


def test_the_code_of_the_page_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "docs/methods.md", "exec"), {})
