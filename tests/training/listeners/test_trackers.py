"""The listeners that talk to a tracker: the tracker itself reads back what it was told, where it is installed."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fxgrow.errors import RunError
from fxgrow.training import (
    EpochDone,
    Event,
    GrowthDone,
    MlflowLog,
    RunResumed,
    RunSettings,
    RunStopped,
    TensorBoardLog,
    TrackioLog,
    WandbLog,
)

Events = tuple[Event, ...]
TRACKERS: dict[str, Callable[[Path], object]] = {
    "tensorboard": TensorBoardLog,
    "wandb": lambda _: WandbLog(),
    "mlflow": lambda _: MlflowLog(),
    "trackio": lambda _: TrackioLog(),
}
# Of other people's packages, nothing is asked but that they work.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_names_its_extra(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hidden:
        @staticmethod
        def find_spec(module: str, *more: object) -> None:
            if module == name:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(sys, "meta_path", [Hidden, *sys.meta_path])
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(RunError, match=rf"'{name}'.*'fxgrow\[{name}\]'") as caught:
        TRACKERS[name](tmp_path)
    assert caught.value.code == "missing-extra"


def scalars(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself reads."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(directory))
    found.Reload()
    return {
        name: [(event.step, event.value) for event in found.Scalars(name)]
        for name in found.Tags()["scalars"]
    }


def epoch_losses(events: Events) -> list[tuple[int, Any]]:
    return [
        (e.optimizer_step, pytest.approx(e.loss, rel=1e-6))
        for e in events
        if isinstance(e, EpochDone)
    ]


def test_tensorboard_reads_the_curves(events: Events, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    log = TensorBoardLog(tmp_path / "board", every=4)
    for event in events:
        log(event)
    found = scalars(tmp_path / "board")
    assert found["loss/train"] == epoch_losses(events)
    assert [step for step, _ in found["loss/batch"]] == [4, 8]
    (grown,) = [event for event in events if isinstance(event, GrowthDone)]
    assert found["model/parameters"] == [(4, grown.report.params_after)]


def test_tensorboard_forgets_what_lies_after_the_checkpoint(events: Events, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    first = TensorBoardLog(tmp_path, every=0)
    for event in events:
        first(event)
    again = TensorBoardLog(tmp_path, every=0)
    again(RunResumed(RunSettings(epochs=2, grow_steps=1), 4, epochs=1, undecided=False))
    again(EpochDone(2, 1, 0.125, optimizer_step=8))
    again(RunStopped("it is enough"))
    assert scalars(tmp_path)["loss/train"] == [epoch_losses(events)[0], (8, 0.125)]


def test_tensorboard_in_a_loop_of_ones_own(tmp_path: Path) -> None:
    """Nobody says when it starts, and nobody counts steps: epochs are the axis."""
    pytest.importorskip("tensorboard")
    log = TensorBoardLog(tmp_path)
    log(EpochDone(3, 0, 0.5, validation_accuracy=0.25))
    assert scalars(tmp_path) == {"loss/train": [(3, 0.5)], "accuracy/validation": [(3, 0.25)]}


def test_mlflow_keeps_the_curves(
    events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    log = MlflowLog("mine")
    for event in events:
        log(event)
    assert mlflow.active_run() is None
    (run,) = mlflow.MlflowClient().search_runs(["0"])
    assert (run.info.run_name, run.info.status) == ("mine", "FINISHED")
    assert run.data.params["epochs"] == "2"
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss/train")
    assert [(one.step, one.value) for one in history] == epoch_losses(events)


def test_wandb_takes_the_numbers_without_a_network(
    events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    log = WandbLog("mine")
    for event in events[:-1]:
        log(event)
    summary = dict(wandb.run.summary)
    last = [event for event in events if isinstance(event, EpochDone)][-1]
    assert summary["loss/train"] == last.loss and summary["optimizer_step"] == 8
    log(events[-1])
    assert wandb.run is None
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_trackio_keeps_the_curves_on_this_machine(
    events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    for module in [module for module in sys.modules if module.partition(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, module)  # where it keeps its data is asked once
    trackio = pytest.importorskip("trackio")
    log = TrackioLog("digits", "mine")
    for event in events:
        log(event)
    rows = trackio.SQLiteStorage.get_logs("digits", "mine")
    curve = [(row["step"], row["loss/train"]) for row in rows if "loss/train" in row]
    assert curve == epoch_losses(events)
