"""The package imports nothing that pyproject.toml does not list as dependencies."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Where the name to import is not the name to install.
IMPORTED_AS = {"pyyaml": "yaml", "scikit-learn": "sklearn"}
SOURCES = sorted((ROOT / "fxgrow").rglob("*.py"))


def imported(requirements: list[str]) -> set[str]:
    names = (re.split(r"[^\w-]", requirement)[0] for requirement in requirements)
    return {IMPORTED_AS.get(name, name) for name in names}


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def needs(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Module and extra of every ``require("module", extra="...")``."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "require"
        ):
            extra = next(keyword.value for keyword in node.keywords if keyword.arg == "extra")
            yield ast.literal_eval(node.args[0]), ast.literal_eval(extra)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_are_dependencies(path: Path) -> None:
    declared = imported(PROJECT["dependencies"]) | set(sys.stdlib_module_names) | {"fxgrow"}
    assert {name.partition(".")[0] for name in imports(ast.parse(path.read_text()))} <= declared


def test_needed_packages_are_in_the_extra_they_name() -> None:
    asked: list[tuple[str, str]] = []
    for path in SOURCES:
        asked += needs(ast.parse(path.read_text()))
    assert {extra for _, extra in asked} >= {"data", "vision", "zoo"}
    for module, extra in asked:
        assert module.partition(".")[0] in imported(PROJECT["optional-dependencies"][extra])
