"""``fxgrow methods`` lists fxgrow's own methods and those of installed packages, without importing them."""

import json
import sys
from pathlib import Path

import pytest

from fxgrow.methods import CATALOG, METHODS
from tests.cli.conftest import Fxgrow


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed package that declares a method, and must not be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    information = tmp_path / "stranger_listed-1.0.dist-info"
    information.mkdir()
    (tmp_path / "stranger_listed.py").write_text("raise SystemExit")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[fxgrow.methods]\nOdd = stranger_listed:Odd\n")
    return "stranger_listed:Odd"


def test_every_method_with_its_cost(fxgrow: Fxgrow) -> None:
    done = fxgrow("methods")
    assert done.exit_code == 0, done.output
    words = " ".join(done.stdout.split())
    assert not [name for name in METHODS if name not in words]
    assert "Of installed packages" not in words


def test_as_json(fxgrow: Fxgrow) -> None:
    record = json.loads(fxgrow("methods", "--json").stdout)
    assert [row["name"] for row in record["methods"]] == [row.name for row in CATALOG]
    assert all(row["reference"] and row["cost"] and row["equation"] for row in record["methods"])


def test_methods_of_packages_by_name_and_place(fxgrow: Fxgrow, stranger: str) -> None:
    done = fxgrow("methods")
    assert done.exit_code == 0, done.output
    assert "Odd" in done.stdout and stranger in done.stdout
    assert json.loads(fxgrow("methods", "--json").stdout)["packages"] == {"Odd": stranger}
    assert "stranger_listed" not in sys.modules
