import json
import shutil
from pathlib import Path

import pytest

from fxgrow.spec import read_spec
from tests.cli.conftest import Fxgrow

ARCHITECTURES = Path(__file__).parents[2] / "specs" / "architectures"


def test_the_architecture_from_its_beginning_and_history(
    fxgrow: Fxgrow, grown: Path, tmp_path: Path
) -> None:
    done = fxgrow("replay", grown, "--out", tmp_path / "again")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == f"0: {read_spec(grown / 'initial').fingerprint}"
    assert lines[1] == f"1: {read_spec(grown).fingerprint}"
    again = read_spec(tmp_path / "again")
    assert again.weights is None
    assert again.fingerprint == read_spec(grown).fingerprint
    assert again.history == read_spec(grown).history
    assert "no weights" in fxgrow("check", tmp_path / "again").stdout


def test_weights_are_not_orphaned(fxgrow: Fxgrow, grown: Path, tmp_path: Path) -> None:
    shutil.copytree(grown, tmp_path / "copy")
    before = (tmp_path / "copy" / "config.json").read_bytes()
    done = fxgrow("replay", grown, "--out", tmp_path / "copy")
    assert done.exit_code == 2
    assert done.stderr.rstrip().endswith("[foreign-directory]")
    assert (tmp_path / "copy" / "config.json").read_bytes() == before


def test_an_earlier_architecture_is_kept_unless_forced(
    fxgrow: Fxgrow, grown: Path, tmp_path: Path
) -> None:
    assert fxgrow("replay", grown, "--out", tmp_path / "again").exit_code == 0
    refused = fxgrow("replay", grown, "--out", tmp_path / "again")
    assert refused.exit_code == 2 and refused.stderr.rstrip().endswith("[path-exists]")
    assert fxgrow("replay", grown, "--out", tmp_path / "again", "--force").exit_code == 0
    (tmp_path / "again" / "config.json").write_text('{"hidden_size": 768}')
    refused = fxgrow("replay", grown, "--out", tmp_path / "again", "--force")
    assert refused.exit_code == 2 and refused.stderr.rstrip().endswith("[foreign-directory]")
    assert (tmp_path / "again" / "config.json").read_text() == '{"hidden_size": 768}'


def test_another_beginning(fxgrow: Fxgrow, grown: Path, tmp_path: Path) -> None:
    assert fxgrow("replay", grown, "--from", grown).exit_code == 0, (
        "a saved model is its own beginning"
    )
    done = fxgrow("replay", grown / "initial", "--from", grown)
    assert done.exit_code == 2
    assert done.stderr.rstrip().endswith("[not-replayable]")


def test_a_history_that_was_changed(fxgrow: Fxgrow, grown: Path, tmp_path: Path) -> None:
    shutil.copytree(grown, tmp_path / "copy")
    config = tmp_path / "copy" / "config.json"
    spec = json.loads(config.read_text())
    spec["history"][0]["widths"][0]["after"] += 1
    spec["history"][0]["widths"][0]["new"] = spec["history"][0]["widths"][0].get("new", 0) + 1
    config.write_text(json.dumps(spec))
    done = fxgrow("replay", tmp_path / "copy")
    assert done.exit_code == 2
    assert "the history leads to" in done.stderr
    assert done.stderr.rstrip().endswith("[not-replayable]")


@pytest.mark.parametrize("name", ["resnet18", "vgg19", "mobilenet_v2", "vit"])
def test_the_shipped_architectures(fxgrow: Fxgrow, name: str) -> None:
    """Widths, heads and layers of models that people know."""
    done = fxgrow("replay", ARCHITECTURES / name)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "the replayed architecture is the saved one"
