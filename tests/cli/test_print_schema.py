import json
from pathlib import Path

import pytest

from fxgrow.cli.print_schema import SCHEMAS, schema_text
from tests.cli.conftest import Fxgrow

COMMITTED = Path(__file__).parents[2] / "specs" / "schema"
VERSIONED = set(SCHEMAS) - {"growth-step"}


def test_every_schema_is_committed_and_no_other_file() -> None:
    assert {path.name for path in COMMITTED.iterdir()} == {f"{name}.json" for name in SCHEMAS}
    assert set(SCHEMAS) == {
        "architecture",
        "growth-step",
        "genotype",
        "recipe",
        "run-result",
        "continual-result",
    }


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_committed_schema_is_up_to_date(name: str) -> None:
    assert (COMMITTED / f"{name}.json").read_text() == schema_text(name), (
        "run: fxgrow schema --out specs/schema --force"
    )


@pytest.mark.parametrize("name", SCHEMAS)
def test_it_is_closed_and_versioned(name: str) -> None:
    schema = json.loads(schema_text(name))
    assert all(
        part.get("additionalProperties") is False
        for part in (schema, *schema["$defs"].values())
        if "properties" in part
    )
    assert ("schema_version" in schema["required"]) == (name in VERSIONED)


def test_it_is_printed(fxgrow: Fxgrow) -> None:
    assert fxgrow("schema").stdout == schema_text("architecture")
    assert fxgrow("schema", "genotype").stdout == schema_text("genotype")


def test_it_is_written(fxgrow: Fxgrow, tmp_path: Path) -> None:
    assert fxgrow("schema", "recipe", "--out", tmp_path / "deep" / "er").exit_code == 0
    assert [path.name for path in (tmp_path / "deep" / "er").iterdir()] == ["recipe.json"]
    done = fxgrow("schema", "--out", tmp_path / "all")
    assert done.stdout.splitlines() == [str(tmp_path / "all" / f"{name}.json") for name in SCHEMAS]
    assert all(
        (tmp_path / "all" / f"{name}.json").read_text() == schema_text(name) for name in SCHEMAS
    )


def test_what_is_there_is_kept(fxgrow: Fxgrow, tmp_path: Path) -> None:
    assert fxgrow("schema", "recipe", "--out", tmp_path).exit_code == 0
    refused = fxgrow("schema", "--out", tmp_path)
    assert refused.exit_code == 2 and refused.stderr.rstrip().endswith("[path-exists]")
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.json"], "all or none"
    assert fxgrow("schema", "--out", tmp_path, "--force").exit_code == 0
    (tmp_path / "recipe.json").write_text('{"name": "my package"}')
    refused = fxgrow("schema", "recipe", "--out", tmp_path, "--force")
    assert refused.stderr.rstrip().endswith("[foreign-path]")
    assert (tmp_path / "recipe.json").read_text() == '{"name": "my package"}'


def test_wrong_input(fxgrow: Fxgrow, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for words, code in (
        (("--out", tmp_path / "file"), "unwritable-run"),
        (("archi",), "unknown-schema"),
    ):
        done = fxgrow("schema", *words)
        assert done.exit_code == 2
        assert done.stderr.rstrip().endswith(f"[{code}]")
