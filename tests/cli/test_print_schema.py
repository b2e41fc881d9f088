import json
from pathlib import Path

from fxgrow.cli.print_schema import SCHEMA, schema_text
from tests.cli.conftest import Fxgrow

COMMITTED = Path(__file__).parents[2] / "specs" / "schema" / SCHEMA


def test_the_committed_schema_is_up_to_date() -> None:
    assert COMMITTED.read_text() == schema_text(), "run: fxgrow schema --out specs/schema"


def test_it_is_printed_or_written(fxgrow: Fxgrow, tmp_path: Path) -> None:
    assert fxgrow("schema").stdout == schema_text()
    assert fxgrow("schema", "--out", tmp_path / "deep" / "er").exit_code == 0
    assert (tmp_path / "deep" / "er" / SCHEMA).read_text() == schema_text()
    assert json.loads(schema_text())["properties"]["fingerprint"]


def test_a_place_that_cannot_be_written(fxgrow: Fxgrow, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = fxgrow("schema", "--out", tmp_path / "file")
    assert done.exit_code == 2
    assert done.stderr.rstrip().endswith("[unwritable-run]")
