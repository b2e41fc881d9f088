"""The numbers of the continual experiment on made-up runs, and that a stopped run goes on to the same ones."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from fxgrow.continual import Task
from tests.continual.tiny import tasks
from tools.experiments import continual
from tools.experiments.continual import forgetting, run, same_bits, summary

Rows = list[dict[str, Any]]


def rows(*accuracies: list[float], said: tuple[list[str], ...] = ()) -> Rows:
    found: Rows = [
        {"accuracies": one, "parameters": 10 * len(one), "growing_epochs": 2.0}
        for one in accuracies
    ]
    for row, words in zip(found, said, strict=False):
        row["said"] = words
    return found


def test_forgetting_is_from_the_best_to_the_last() -> None:
    assert forgetting(rows([0.9], [0.7, 0.8], [0.8, 0.5, 0.6])) == pytest.approx(
        (0.1 + 0.3 + 0) / 3
    )
    assert forgetting(rows([0.5], [0.5, 0.75])) == 0.0
    assert forgetting(rows([0.5], [0.75, 0.75])) == 0.0  # better than before is not forgotten


def test_same_bits() -> None:
    assert same_bits(rows([1], [1, 1], said=(["x"], ["x", "y"])))
    assert not same_bits(rows([1], [1, 1], said=(["x"], ["z", "y"])))
    assert not same_bits(rows([1], [1, 1], [1, 1, 1], said=(["x"], ["z", "y"], ["x", "y", "w"])))
    assert same_bits(
        rows([1], [1, 1])
    )  # of networks that were trained once, nothing is asked again


def test_summary() -> None:
    runs = [
        {"method": "ours", "seed": 0, "tasks": rows([0.5], [0.5, 0.7], said=(["x"], ["x", "y"]))},
        {"method": "ours", "seed": 1, "tasks": rows([0.9], [0.8, 1.0], said=(["x"], ["z", "y"]))},
        {"method": "other", "seed": 0, "tasks": [{"accuracies": [0.25, 0.75], "parameters": 7}]},
    ]
    ours, other = summary(runs)
    assert (ours["method"], ours["seeds"], other["method"], other["seeds"]) == (
        "ours",
        2,
        "other",
        1,
    )
    assert ours["averages"] == pytest.approx([0.6, 0.9]) and ours["average"] == pytest.approx(0.75)
    assert ours["standard_error"] == pytest.approx(0.15)  # a deviation of 0.3 / sqrt 2 over sqrt 2
    assert (ours["parameters"], ours["growing_epochs"], ours["same_bits"]) == (20, 4, False)
    assert ours["forgetting"] == pytest.approx(0.1 / 2 / 2)
    assert (other["standard_error"], other["growing_epochs"], other["same_bits"]) == (None, 0, True)


def chosen(out: Path) -> argparse.Namespace:
    return argparse.Namespace(
        out=out,
        thin=2,
        full=3,
        blocks=[1, 1],
        epochs=1,
        batch=16,
        lr=0.1,
        growth_batches=1,
        budget=200,
    )


def timeless(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: timeless(value) for key, value in found.items() if "seconds" not in key}
    return [timeless(one) for one in found] if isinstance(found, list) else found


@pytest.mark.parametrize("name", ["firefly", "ewc"])
def test_a_stopped_run_goes_on_to_the_same_numbers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = tasks(3)
    whole = run(name, chosen(tmp_path / "whole"), stream, 0)
    begun = run_until(2, name, chosen(tmp_path / "stopped"), stream, monkeypatch)
    assert [len(row["accuracies"]) for row in begun["tasks"]] == [1, 2]
    parts = tmp_path / "stopped" / "parts"
    assert (parts / f"{name}-0.pt").exists()
    assert timeless(run(name, chosen(tmp_path / "stopped"), stream, 0)) == timeless(whole)
    assert not (parts / f"{name}-0.pt").exists()
    assert (parts / "scratch-0.json").exists() == (name == "firefly")
    if name == "firefly":
        assert same_bits(whole["tasks"]) and forgetting(whole["tasks"]) == 0


def run_until(
    done: int,
    name: str,
    how: argparse.Namespace,
    stream: tuple[Task, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Any]:
    """What is on disk when somebody pulls the plug after that many tasks."""

    class StoppedError(Exception):
        pass

    row = continual._row

    def stop(learner: Any, seen: tuple[Task, ...], learnt: Any) -> dict[str, Any]:
        if len(seen) > done:
            raise StoppedError
        return row(learner, seen, learnt)

    with monkeypatch.context() as patch:
        patch.setattr(continual, "_row", stop)
        with pytest.raises(StoppedError):
            run(name, how, stream, 0)
    found: dict[str, Any] = json.loads((how.out / "parts" / f"{name}-0.json").read_text())
    return found


def test_a_state_of_another_moment_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_until(1, "ewc", chosen(tmp_path), tasks(), monkeypatch)
    path = tmp_path / "parts" / "ewc-0.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"tasks": 2 * record["tasks"]}))
    with pytest.raises(SystemExit, match="another moment"):
        run("ewc", chosen(tmp_path), tasks(3), 0)
