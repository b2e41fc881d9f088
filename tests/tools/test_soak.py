"""The judge of killed runs sees what differs, and what a process was doing when it was killed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tools import soak


def finished(place: Path, **changes: Any) -> Path:
    run = place / soak.NAME
    (run / "initial").mkdir(parents=True)
    for name in soak.FILES:
        (run / name).write_text(name)
    step = {"seconds": 1.0, "trained_steps": 3, "test_loss_trained": 2.0, "params": 5}
    result = {"growth_seconds": 1.0, "epoch_seconds": 1.0, "loss_after": 0.5, "steps": [step]}
    (run / "result.json").write_text(json.dumps(result | changes))
    return run


def test_the_same_but_for_times(tmp_path: Path) -> None:
    whole = finished(tmp_path / "whole")
    assert soak.is_same(finished(tmp_path / "a", epoch_seconds=9.0), whole)
    assert not soak.is_same(finished(tmp_path / "b", loss_after=0.4), whole)
    left = finished(tmp_path / "c")
    (left.parent / soak.HIDDEN).mkdir()
    assert not soak.is_same(left, whole)


@pytest.mark.parametrize("name", soak.FILES)
def test_one_bit_is_seen(name: str, tmp_path: Path) -> None:
    whole, run = finished(tmp_path / "whole"), finished(tmp_path / "a")
    (run / name).write_text("other")
    assert not soak.is_same(run, whole)


def test_what_it_was_doing(tmp_path: Path) -> None:
    last = tmp_path / soak.HIDDEN / "checkpoint-1"
    last.mkdir(parents=True)
    for undecided, words in ((True, "growing"), (False, "training")):
        (last / "state.json").write_text(json.dumps({"undecided": undecided}))
        assert soak.moment_of_death(tmp_path) == words
    (tmp_path / soak.HIDDEN / "checkpoint.partial").mkdir()
    assert soak.moment_of_death(tmp_path) == "writing a checkpoint"
    finished(tmp_path)
    assert soak.moment_of_death(tmp_path) == "publishing"
    shutil.rmtree(tmp_path / soak.HIDDEN)
