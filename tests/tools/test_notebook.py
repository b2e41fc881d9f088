"""The tutorial runs from its first cell to its last, and the site shows what it printed."""

import json
from pathlib import Path

import pytest

from tools.docs_site.notebook import markdown, read, run

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.ipynb"


@pytest.fixture(scope="module")
def tutorial() -> dict[str, object]:
    return run(read(TUTORIAL), TUTORIAL.name)


def printed(notebook: dict[str, object]) -> list[str]:
    """What each code cell printed."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]  # type: ignore[attr-defined]
    return ["".join(line for out in cell["outputs"] for line in out["text"]) for cell in cells]


def test_the_grown_network_is_better(tutorial: dict[str, object]) -> None:
    (compared,) = (text for text in printed(tutorial) if text.startswith("not grown"))
    not_grown, grown = (float(line.split()[-1].rstrip("%")) for line in compared.splitlines())
    assert grown > not_grown + 10


def test_what_is_kept_was_printed_by_these_cells(tutorial: dict[str, object]) -> None:
    """Numbers differ between processors, and so may what grows; the cells that say something do not."""
    kept = [bool(text) for text in printed(read(TUTORIAL))]
    assert kept == [bool(text) for text in printed(tutorial)]
    assert any(kept)


def test_the_page_holds_text_code_and_output() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Words."]},
        {"cell_type": "code", "source": ["x = 2\n", "print(x)"]},
        {"cell_type": "code", "source": ["x += 1"]},
    ]
    page = markdown(run({"cells": cells}, "small"))
    assert page == (
        "# Title\nWords.\n\n```python\nx = 2\nprint(x)\n```\n\n```text\n2\n```\n\n```python\nx += 1\n```\n\n"
    )


def test_a_cell_that_fails_names_itself() -> None:
    with pytest.raises(ZeroDivisionError) as failure:
        run({"cells": [{"cell_type": "code", "source": ["1 / 0"]}]}, "small")
    assert failure.traceback[-1].path == "small, cell 1"
    assert json.loads(TUTORIAL.read_text(encoding="utf-8"))["nbformat"] == 4
