"""``--log``: what a run leaves beside its ``log.jsonl``, stopped or not."""

import csv
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import SHORT, Fxgrow
from tests.cli.test_resume_run import TINY, TRUST, ended, forked, wait_for

LOGS = ("--log", "csv", "--log", "tensorboard", "--log", "csv")


def kinds(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return [row["event"] for row in csv.DictReader(file)]


def test_logs_lie_in_the_run_and_are_replaced_with_it(fxgrow: Fxgrow, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    out = tmp_path / "runs" / "run"
    child = forked(("grow", TINY, "--out", out, *SHORT, *LOGS), tmp_path / "said")
    wait_for(tmp_path, "runs/.run.unfinished/checkpoint-1")
    os.kill(child, signal.SIGKILL)
    assert ended(child) == -signal.SIGKILL
    # It asks for the same logs as before.
    done = fxgrow("resume", out, *TRUST)
    assert done.exit_code == 0, done.output
    assert kinds(out / "metrics.csv") == ["epoch", "growth", "epoch"]
    files = list((out / "tensorboard").iterdir())
    assert len(files) == 2, "before and after the stop"
    again = fxgrow("grow", TINY, "--out", out, *SHORT, "--force")
    assert again.exit_code == 0, again.output
    assert not (out / "metrics.csv").exists() and not (out / "tensorboard").exists()


@pytest.mark.parametrize("name", ["metrics.csv", "tensorboard"])
def test_what_only_has_the_name_of_a_log_is_kept(
    grown: Path, fxgrow: Fxgrow, name: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(grown, out)
    if name == "tensorboard":
        (out / name).mkdir()
    foreign = out / name / "events.out.tfevents.1" if name == "tensorboard" else out / name
    foreign.write_text("my own numbers\n1, 2, 3\n")
    done = fxgrow("grow", TINY, "--out", out, *SHORT, "--force")
    assert done.exit_code == 2 and "[foreign-directory]" in done.stderr and name in done.stderr
    assert foreign.read_text().startswith("my own numbers")


def test_a_log_that_cannot_be_is_refused_at_once(
    fxgrow: Fxgrow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    unknown = fxgrow("grow", TINY, "--out", out, *SHORT, "--log", "csv", "--log", "comet")
    assert unknown.exit_code == 2
    assert (
        "--log comet is unknown" in unknown.stderr and "csv, tensorboard, wandb" in unknown.stderr
    )
    monkeypatch.setitem(sys.modules, "wandb", None)
    missing = fxgrow("grow", TINY, "--out", out, *SHORT, "--log", "wandb")
    assert missing.exit_code == 2 and "pip install 'fxgrow[wandb]'" in missing.stderr
    assert list(tmp_path.iterdir()) == []
