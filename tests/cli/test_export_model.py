from pathlib import Path

from tests.cli.conftest import Fxgrow


def test_says_what_it_wrote_and_how_it_was_checked(
    fxgrow: Fxgrow, grown: Path, tmp_path: Path
) -> None:
    done = fxgrow("export", grown, "--to", "hub", "--out", tmp_path / "hub", "--license", "mit")
    assert done.exit_code == 0, done.output
    assert "no bit differs" in done.stdout
    assert fxgrow("check", tmp_path / "hub").stdout.startswith("sound: ")


def test_errors_are_a_sentence(fxgrow: Fxgrow, grown: Path, tmp_path: Path) -> None:
    for words, code in (
        (("--to", "tflite"), "unknown-format"),
        (("--to", "python"), "path-exists"),
    ):
        done = fxgrow("export", grown, *words, "--out", tmp_path)
        assert done.exit_code == 2
        assert done.stderr.rstrip().endswith(f"[{code}]")
    done = fxgrow("export", grown, "--to", "python", "--out", tmp_path, "--force")
    assert done.stderr.rstrip().endswith("[foreign-path]")
