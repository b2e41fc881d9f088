"""docs/errors.md lists the codes of the user's errors, no more and no fewer; those of ``SpecError`` are in docs/spec.md."""

import ast
import doctest
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fxgrow import errors
from fxgrow.errors import FxgrowError

ROOT = Path(__file__).parents[1]
ERRORS = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, FxgrowError) and name != "SpecError"
}
ROW = re.compile(r"^\| `([\w-]+)` \| (.+?) \| (.+) \|$")
# ``optional.require`` raises the error that its caller chooses; what the coupling refuses is listed with the refusals.
CHOSEN_BY_CALLER = {"error"}


def raised(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Code and class of every error that is made with a literal code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            if node.func.id == "errors_as":
                chosen, given = node.args[:2]
                assert isinstance(chosen, ast.Name) and isinstance(given, ast.Constant)
                yield str(given.value), chosen.id
                continue
            code = node.args[0]
            known = node.func.id in ERRORS | CHOSEN_BY_CALLER
            if known and isinstance(code, ast.Constant) and isinstance(code.value, str):
                yield code.value, node.func.id


def in_sources() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "fxgrow").rglob("*.py")):
        for code, name in raised(ast.parse(path.read_text())):
            found.setdefault(code, set()).add(name)
    return found


def on_the_page() -> dict[str, set[str]]:
    lines = (ROOT / "docs" / "errors.md").read_text().splitlines()
    rows = [match for line in lines if (match := ROW.match(line)) and match[1] != "code"]
    assert len({row[1] for row in rows}) == len(rows), "a code is listed twice"
    return {row[1]: set(re.findall(r"`(\w+)`", row[2])) for row in rows}


def test_the_page_lists_the_codes_of_the_sources() -> None:
    sources, page = in_sources(), on_the_page()
    assert sorted(page) == sorted(sources)
    for code, names in sources.items():
        if not names & CHOSEN_BY_CALLER:
            assert page[code] == names, code


def test_the_codes_are_in_order() -> None:
    assert list(on_the_page()) == sorted(on_the_page())


EXAMPLES = [test for test in doctest.DocTestFinder().find(errors, "errors") if "." in test.name]
CLASSES = {name for name, value in vars(errors).items() if isinstance(value, type)}


def test_every_class_has_an_example() -> None:
    with_example = {test.name.removeprefix("errors.") for test in EXAMPLES if test.examples}
    assert with_example == CLASSES


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_examples_run(example: doctest.DocTest) -> None:
    runner = doctest.DocTestRunner()
    runner.run(example, clear_globs=False)
    assert runner.summarize(verbose=False).failed == 0
