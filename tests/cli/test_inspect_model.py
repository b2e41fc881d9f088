import json
from pathlib import Path

from tests.cli.conftest import Fxgrow

TINY = "tests.cli.models:tiny"


def test_a_table_of_widths(fxgrow: Fxgrow) -> None:
    done = fxgrow("inspect", TINY)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "python:tests.cli.models:tiny: 430 parameters"
    assert any(line.split()[:3] == ["0", "4", "1"] and "yes" in line for line in lines)
    assert any("no, output:" in line for line in lines)
    assert lines[-1] == "2 of 3 widths can grow, 12 neurons in them"


def test_json(fxgrow: Fxgrow) -> None:
    record = json.loads(fxgrow("inspect", f"{TINY}?width=2", "--json").stdout)
    assert record["capture"] == [{"module": "", "how": "traced", "why": ""}]
    sizes = {width["name"]: (width["size"], width["growable"]) for width in record["widths"]}
    assert sizes == {"0": (8, True), "4": (16, True), "8": (10, False)}
    assert record["widths"][2]["refusal"]["code"] == "output"
    assert set(record["widths"][0]) == {"name", "size", "granule", "sites", "growable", "refusal"}


def test_a_directory(fxgrow: Fxgrow, grown: Path) -> None:
    before, after = (
        json.loads(fxgrow("inspect", d, "--json").stdout) for d in (grown / "initial", grown)
    )
    assert [width["name"] for width in before["widths"]] == [
        width["name"] for width in after["widths"]
    ]
    assert before["parameters"] < after["parameters"]


def test_a_model_that_is_not_there(fxgrow: Fxgrow) -> None:
    done = fxgrow("inspect", "runs/none")
    assert done.exit_code == 2
    assert "'runs/none' is neither a directory with a config.json nor a reference" in done.stderr


def test_a_corrupt_spec(fxgrow: Fxgrow, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    done = fxgrow("inspect", tmp_path)
    assert done.exit_code == 2
    assert done.stderr.startswith("fxgrow: config.json: it is not JSON")
    assert len(done.stderr.splitlines()) == 1


def test_what_no_example_reaches_is_listed(fxgrow: Fxgrow) -> None:
    record = json.loads(fxgrow("inspect", TINY, "--json").stdout)
    assert record["unreached"] == []
