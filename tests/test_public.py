"""What ``import fxgrow`` offers: names, lazily imported packages, and old spellings."""

import importlib
import subprocess
import sys
import warnings

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


@pytest.mark.parametrize(("package", "name"), OLD_NAMES)
def test_old_names_work_for_one_version(package: str, name: str) -> None:
    module = importlib.import_module(package)
    with pytest.warns(DeprecationWarning, match=rf"{package}\.{name} is "):
        assert getattr(module, name) is not None


def test_everything_that_is_listed_is_there() -> None:
    for name in fxgrow.__all__:
        assert getattr(fxgrow, name) is not None
    assert fxgrow.__version__.count(".") == 2


def test_packages_are_imported_when_they_are_asked_for() -> None:
    code = (
        "import sys, fxgrow\n"
        "assert 'fxgrow.cells' not in sys.modules and 'fxgrow.continual' not in sys.modules\n"
        "assert fxgrow.cells.GENOTYPES and fxgrow.continual.Master\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def test_a_name_that_never_was_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'fxgrow' has no attribute 'shrink'"):
        fxgrow.shrink  # noqa: B018
    with warnings.catch_warnings(), pytest.raises(AttributeError):
        importlib.import_module("fxgrow.growth").Shrink  # noqa: B018
