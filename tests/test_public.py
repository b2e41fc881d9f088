"""What ``import fxgrow`` offers: names, lazily imported packages, and old spellings."""

import ast
import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import fxgrow

RENAMED = {
    "fxgrow.capture": ["moved", "positional", "verify"],
    "fxgrow.growth": [
        "EVERYTHING", "Choose", "Filling", "Loss", "Neighbourhood", "Purse", "open_purse",
    ],
    "fxgrow.rewrite": [
        "HOLDER", "Depth", "Edge", "GrownLayer", "erase", "fitting_edges", "with_layers",
    ],
    "fxgrow.cells": ["Kind", "Place", "Scores", "Search", "Tuples", "places"],
    "fxgrow.continual": ["Expanded", "Outcome", "TwoSteps", "deal"],
    "fxgrow.training": ["Log", "Result", "Written", "result_of"],
    "fxgrow.spec": ["Frozen", "write"],
    "fxgrow.export": ["Described", "Model"],
    "fxgrow.lowering": ["ROWS"],
    "fxgrow.report": ["count", "number", "percent", "ratio", "seconds"],
}  # fmt: skip
OLD_NAMES = [(package, name) for package, names in RENAMED.items() for name in names]


def run_alone(code: str) -> None:
    """Run lines in an interpreter of their own."""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


@pytest.mark.parametrize(("package", "name"), OLD_NAMES)
def test_old_names_work_for_one_version(package: str, name: str) -> None:
    module = importlib.import_module(package)
    with pytest.warns(DeprecationWarning, match=rf"{package}\.{name} is "):
        assert getattr(module, name) is not None


def test_everything_that_is_listed_is_there() -> None:
    for name in fxgrow.__all__:
        assert getattr(fxgrow, name) is not None
    assert fxgrow.__version__.count(".") == 2


def test_type_checkers_read_what_is_there() -> None:
    """The imports for type checkers, the homes of the names and ``__all__`` say the same."""
    tree = ast.parse(Path(fxgrow.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed: dict[str, str | None] = {}
    for statement in block.body:
        assert isinstance(statement, ast.ImportFrom)
        typed |= {name.name: statement.module for name in statement.names}
    assert typed == fxgrow._HOME_OF
    assert sorted([*typed, "__version__"]) == sorted(fxgrow.__all__)
    assert set(fxgrow.__all__) <= set(dir(fxgrow))


def test_importing_fxgrow_imports_nothing_heavy() -> None:
    code = (
        "import sys, fxgrow\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'networkx', 'scipy', 'sympy', 'rich', 'typer'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    run_alone(code)


def test_growing_imports_nothing_that_it_does_not_use() -> None:
    code = (
        "import torch, sys\n"
        "before = set(sys.modules)\n"
        "import fxgrow; fxgrow.grow, fxgrow.widen, fxgrow.couple, fxgrow.load\n"
        "heavy = {'torch.export', 'torch._dynamo', 'torch._inductor', 'networkx', 'scipy', 'sympy',\n"
        "  'onnx', 'torchvision', 'rich', 'typer', 'fxgrow.cells', 'fxgrow.continual'} - before\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    run_alone(code)


def test_packages_are_imported_when_they_are_asked_for() -> None:
    run_alone("import fxgrow; assert fxgrow.cells.GENOTYPES and fxgrow.continual.Master")


def test_functions_are_not_hidden_by_packages_of_their_name() -> None:
    run_alone(
        "import fxgrow.capture, fxgrow.export.export, fxgrow\n"
        "from fxgrow.capture import capture\n"
        "from fxgrow import export\n"
        "assert fxgrow.capture is capture and callable(capture) and fxgrow.export is export\n"
    )


def test_a_name_that_never_was_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'fxgrow' has no attribute 'shrink'"):
        fxgrow.shrink  # noqa: B018
    with warnings.catch_warnings(), pytest.raises(AttributeError):
        importlib.import_module("fxgrow.growth").Shrink  # noqa: B018
