"""The figures of the house are counted as they say; CI holds their bounds by ``make check``."""

import ast
from pathlib import Path

import pytest

from tools import style
from tools.style import FIGURES, ROOT, Source

CODE = '''"""A module."""

from fxgrow.growth.select import select


def pairs(rows):
    # Both at once.
    return [cell for row in rows for cell in {x for x in row}]


def over(graph):
    return overgrow(graph)
'''


def source(text: str, name: str = "one") -> Source:
    path = ROOT / "fxgrow" / "cells" / f"{name}.py"
    lines = tuple(line for line in text.splitlines() if line.strip())
    return Source(path, text, lines, ast.parse(text))


def test_counts_of_a_small_module() -> None:
    files = (source(CODE),)
    lines = 7
    assert FIGURES["comprehensions per 100 lines"].count(files) == round(200 / lines, 2)
    assert FIGURES["nested comprehensions per 100 lines"].count(files) == round(200 / lines, 2)
    assert FIGURES["comments per 100 lines"].count(files) == round(100 / lines, 2)
    assert FIGURES["function lines, longest"].count(files) == 3
    assert FIGURES["lines over 100 characters, %"].count(files) == 0
    assert FIGURES["imports past another __init__"].count(files) == 1
    assert FIGURES["growth pipelines"].count(files) == 1


def test_a_long_line_and_a_repeated_name_are_seen() -> None:
    files = (source(CODE + "x = '" + "a" * 100 + "'\n"), source(CODE, "two"))
    assert FIGURES["lines over 100 characters, %"].count(files) > 0
    assert style.repeated_public_names(files) == ["over", "pairs"]


def test_own_imports_are_not_deep() -> None:
    own = source("from fxgrow.cells.stack import CellKind\nfrom fxgrow.growth import select\n")
    assert list(style.imports_past_init((own,))) == []


@pytest.mark.parametrize("name", FIGURES)
def test_bounds_hold_in_the_direction_that_they_say(name: str) -> None:
    figure = FIGURES[name]
    better = figure.bound + (1 if figure.at_least else -1)
    worse = figure.bound + (-1 if figure.at_least else 1)
    assert figure.holds(figure.bound) and figure.holds(better) and not figure.holds(worse)


def test_every_package_of_the_tree_is_read() -> None:
    read = {file.path for file in style.sources()}
    assert {Path(ROOT / "fxgrow" / "api.py"), Path(ROOT / "fxgrow" / "growth" / "step.py")} <= read
