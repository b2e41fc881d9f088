import json
from pathlib import Path

import pytest

from fxgrow.continual.result import read_continual
from tests.cli.conftest import Fxgrow

TINY = (
    "--tasks",
    "2",
    "--size",
    "8",
    "--limit",
    "60",
    "--width",
    "2",
    "--epochs",
    "1",
    "--budget",
    "2",
)


def test_it_learns_shows_and_goes_on(fxgrow: Fxgrow, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = fxgrow("continual", "run", "--out", out, *TINY)
    assert done.exit_code == 0, done.output
    assert [line.split()[:4] for line in done.stderr.splitlines()] == [
        ["task", str(n), "of", "2"] for n in (1, 2)
    ]
    assert "Test accuracy" in done.stdout and "forgetting 0.00 %" in done.stdout
    assert read_continual(out).plan.settings.train.epochs == 1

    again = fxgrow("continual", "run", "--out", out, "--json", *TINY)
    assert again.exit_code == 0 and not again.stderr
    assert json.loads(again.stdout) == json.loads((out / "result.json").read_text())
    assert fxgrow("continual", "show", out).stdout == done.stdout

    other = fxgrow("continual", "run", "--out", out, *TINY, "--seed", "1")
    assert other.exit_code == 2
    assert "seed is 0, not 1" in other.stderr and other.stderr.rstrip().endswith("[other-run]")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--tasks", "3"), "classes"),
        (("--tasks", "0"), "bad-setting"),
        (("--width", "0"), "bad-setting"),
        (("--epochs", "0"), "bad-setting"),
        (("--try-epochs", "0"), "bad-setting"),
        (("--target", "1.5"), "bad-setting"),
        (("--budget", "much"), "bad-budget"),
        (("--budget", "0"), "empty-budget"),
        (("--data", "letters"), "unknown-data"),
        (("--size", "4"), "does-not-run"),
    ],
)
def test_wrong_input_is_one_sentence(
    fxgrow: Fxgrow, tmp_path: Path, words: tuple[str, ...], code: str
) -> None:
    done = fxgrow("continual", "run", "--out", tmp_path / "out", *TINY, *words)
    assert done.exit_code == 2
    assert done.stderr.rstrip().endswith(f"[{code}]") and done.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("begun", [True, False])
def test_interrupted(
    begun: bool, fxgrow: Fxgrow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        if begun:
            (tmp_path / "result.json").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("fxgrow.continual.result.StreamPlan.deal", interrupted)
    done = fxgrow("continual", "run", "--out", tmp_path, *TINY)
    assert done.exit_code == 130
    assert ("say the same to go on" in done.stderr) == begun
    assert ("nothing was written" in done.stderr) != begun
