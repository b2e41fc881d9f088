import json
from pathlib import Path

from fxgrow.spec import read_spec
from tests.cli.conftest import Fxgrow


def test_every_architecture_has_a_row(fxgrow: Fxgrow, grown: Path) -> None:
    done = fxgrow("log", grown)
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines() if line[1:13].isalnum()]
    specs = (read_spec(grown / "initial"), read_spec(grown))
    assert [row[0] for row in rows] == [spec.fingerprint[:12] for spec in specs]
    assert rows[1][1] == "Firefly"
    assert "neurons 0.5" in done.stdout


def test_as_json(fxgrow: Fxgrow, grown: Path) -> None:
    record = json.loads(fxgrow("log", grown, "--json").stdout)
    assert record["fingerprint"] == read_spec(grown).fingerprint
    assert record["history"][0]["parent"] == read_spec(grown / "initial").fingerprint


def test_a_model_that_never_grew(fxgrow: Fxgrow, grown: Path) -> None:
    done = fxgrow("log", grown / "initial")
    assert done.exit_code == 0
    assert done.stdout.rstrip().endswith("never grown")
