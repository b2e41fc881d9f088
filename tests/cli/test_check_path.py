import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Fxgrow

ROOT = Path(__file__).parents[2]
ARCHITECTURES = ROOT / "specs" / "architectures"


def test_a_sound_directory(fxgrow: Fxgrow, grown: Path) -> None:
    done = fxgrow("check", grown)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("sound: ")
    assert "1x1x8x8 float32; gives 1x10 float32" in done.stdout
    assert "3 widths, 2 can grow; grown 1 time by Firefly, 6 neurons in all" in done.stdout
    assert "never grown" in fxgrow("check", grown / "initial").stdout


def test_a_flipped_bit_in_the_weights(fxgrow: Fxgrow, grown: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(grown, copy)
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    done = fxgrow("check", copy)
    assert done.exit_code == 2
    assert done.stderr.rstrip().endswith("[weights-mismatch]")


def test_weights_that_the_spec_disowns(fxgrow: Fxgrow, grown: Path, tmp_path: Path) -> None:
    """They must not pass for an architecture without weights."""
    copy = tmp_path / "copy"
    shutil.copytree(grown, copy)
    spec = json.loads((copy / "config.json").read_text())
    del spec["weights"]
    (copy / "config.json").write_text(json.dumps(spec))
    done = fxgrow("check", copy)
    assert done.exit_code == 2
    assert done.stderr.rstrip().endswith("[weights-mismatch]")


@pytest.mark.parametrize(
    "name", sorted(path.parent.name for path in ARCHITECTURES.glob("*/config.json"))
)
def test_the_shipped_architectures_are_sound(fxgrow: Fxgrow, name: str) -> None:
    done = fxgrow("check", ARCHITECTURES / name)
    assert done.exit_code == 0, done.output
    assert "grown 2 times by Firefly" in done.stdout and "no weights" in done.stdout
    assert "never grown" in fxgrow("check", ARCHITECTURES / name / "initial").stdout


@pytest.mark.parametrize(
    "path", sorted(ARCHITECTURES.glob("genotypes/*.json")), ids=lambda path: path.stem
)
def test_the_shipped_genotypes_are_sound(fxgrow: Fxgrow, path: Path) -> None:
    assert fxgrow("check", path).stdout.startswith(
        "sound: a genotype; its normal and reduction cell have"
    )


@pytest.mark.parametrize(
    "path", sorted((ROOT / "specs" / "recipes").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_shipped_recipes_are_sound(fxgrow: Fxgrow, path: Path) -> None:
    assert fxgrow("check", path).stdout.startswith("sound: a recipe; ")


def test_a_file_that_is_none_of_these(fxgrow: Fxgrow, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    done = fxgrow("check", tmp_path / "notes.txt")
    assert done.exit_code == 2
    assert done.stderr.rstrip().endswith("[not-a-file]")


def test_no_directory(fxgrow: Fxgrow, tmp_path: Path) -> None:
    done = fxgrow("check", tmp_path / "none")
    assert done.exit_code == 2
    assert done.stderr.rstrip().endswith("[missing-file]")


def test_a_recipe_that_waits_says_so(fxgrow: Fxgrow) -> None:
    recipes = ROOT / "specs" / "recipes"
    waits = fxgrow("check", recipes / "plateau.yaml").stdout
    assert "20 epochs, 3 growth steps at most (OnPlateau) by Auto" in " ".join(waits.split())
    assert "at most" not in fxgrow("check", recipes / "demo.yaml").stdout
