import shutil
from pathlib import Path

from tests.cli.conftest import Fxgrow


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


def test_no_directory(fxgrow: Fxgrow, tmp_path: Path) -> None:
    done = fxgrow("check", tmp_path / "none")
    assert done.exit_code == 2
    assert done.stderr.rstrip().endswith("[missing-file]")
