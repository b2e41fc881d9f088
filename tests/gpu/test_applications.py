"""What is built on growth works where its images are, and what it writes can be read without a GPU."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from fxgrow.cli.main import app
from fxgrow.continual import MasterSettings, Task, TrainSettings, split_classes
from fxgrow.continual.registry import STRATEGIES, StrategySetup
from fxgrow.continual.result import ContinualResult
from fxgrow.continual.run import MASTER_DIRECTORY, run_stream
from fxgrow.continual.storage import load_master
from fxgrow.data import load_data
from fxgrow.growth import Budget
from fxgrow.spec import load
from tests.continual.streams import PLAN
from tests.continual.streams import tasks as grey
from tests.continual.tiny import INPUTS, model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class StoppedError(Exception):
    """Somebody pulled the plug."""


def stop(result: ContinualResult) -> None:
    if len(result.outcomes) == 2:
        raise StoppedError


def moved(task: Task) -> Task:
    parts = (part.to("cuda") for part in (task.train, task.valid, task.test))
    return Task(task.name, *parts, task.classes, task.labels)


@pytest.mark.parametrize("then", ["cpu", "cuda"])
def test_a_stream_stops_here_and_goes_on_there(then: str, tmp_path: Path) -> None:
    out, there = tmp_path / "run", tuple(map(moved, grey()))
    with pytest.raises(StoppedError):
        run_stream(there, PLAN, out, callback=stop)
    found = load_master(out / MASTER_DIRECTORY)
    assert found.device.type == "cpu"
    found.check()
    done = run_stream(grey() if then == "cpu" else there, PLAN, out)
    assert [outcome.task for outcome in done.outcomes] == ["1", "2", "3"]
    assert done.forgetting < 0.2 if then == "cpu" else done.forgetting == 0.0


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_learner(name: str) -> None:
    task = split_classes(
        load_data("digits", channels=1, size=8, train_size=120, test_size=50).to("cuda"), 5
    )[0]
    settings = MasterSettings(train=TrainSettings(epochs=1, batch_size=16, lr=0.1))
    here = (INPUTS[0].cuda(),)
    learner = STRATEGIES[name](
        StrategySetup(model().cuda(), model().cuda(), here, settings, Budget(neurons=2), target=0.1)
    )
    learner.learn(task)
    assert learner.network(task.name)(task.test.images).is_cuda


def run(*words: object) -> None:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_commands(tmp_path: Path) -> None:
    short = ("--limit", "64", "--device", "cuda")
    grow = ("--epochs", "2", "--grow-steps", "1", "--new", "1", "--batch-size", "32")
    run(
        "grow",
        "tests.cli.models:tiny",
        "--neurons",
        "0.5",
        "--out",
        tmp_path / "grown",
        *grow,
        *short,
    )
    assert not any(parameter.is_cuda for parameter in load(tmp_path / "grown").parameters())
    assert "cuda" not in (tmp_path / "grown" / "recipe.yaml").read_text()
    recipe, trust = tmp_path / "grown" / "recipe.yaml", ("--trust", "tests.cli.models")
    run("run", recipe, "--out", tmp_path / "again", "--device", "cuda", *trust)
    small = ("--channels", "2", "--size", "8", "--batch-size", "16", "--epochs", "1")
    run(
        "cells",
        "search",
        "--cells",
        "3",
        "--nodes",
        "1",
        "--out",
        tmp_path / "cells",
        *small,
        *short,
    )
    run(
        "cells",
        "train",
        "DARTS_V2",
        "--layers",
        "2",
        "--data",
        "digits",
        "--out",
        tmp_path / "net",
        *small,
        *short,
    )
    tiny = ("--tasks", "2", "--size", "8", "--width", "2", "--epochs", "1", "--budget", "2")
    run("continual", "run", "--out", tmp_path / "stream", *tiny, *short)
