import json
from pathlib import Path

import pytest
import torch

from fxgrow.continual.result import ContinualResult, StreamPlan, read_continual
from fxgrow.continual.run import MASTER_DIRECTORY, run_stream
from fxgrow.continual.storage import RECORD, load_master
from fxgrow.errors import FxgrowError
from tests.continual.streams import PLAN, tasks


class StoppedError(Exception):
    """Somebody pulled the plug."""


def stop(result: ContinualResult) -> None:
    if len(result.outcomes) == 2:
        raise StoppedError


def fingerprints(directory: Path) -> dict[str, str]:
    return {
        name: state.fingerprint
        for name, state in load_master(directory / MASTER_DIRECTORY).tasks.items()
    }


def timeless(result: ContinualResult) -> ContinualResult:
    outcomes = tuple(
        o.model_copy(update={"seconds": 0.0, "cpu_seconds": 0.0, "check_seconds": 0.0})
        for o in result.outcomes
    )
    return result.model_copy(update={"outcomes": outcomes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped, for tests that only read it."""
    out = tmp_path_factory.mktemp("stream") / "whole"
    run_stream(tasks(), PLAN, out)
    return out


def test_what_a_run_leaves(whole: Path) -> None:
    result = read_continual(whole)
    assert sorted(path.name for path in whole.iterdir()) == ["master", "result.json"]
    assert [path.name for path in whole.parent.iterdir()] == ["whole"]
    assert (
        list(fingerprints(whole))
        == [outcome.task for outcome in result.outcomes]
        == ["1", "2", "3"]
    )
    assert sorted(label for labels in result.labels for label in labels) == list(range(6))
    # Nothing is forgotten: a column of the matrix holds one number.
    last = result.accuracies[-1]
    assert all(row == last[: len(row)] for row in result.accuracies) and result.forgetting == 0.0
    assert len(set(last)) > 1 or last[0] > 0.5


def test_a_stopped_run_goes_on_to_the_same_bits(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    with pytest.raises(StoppedError):
        run_stream(tasks(), PLAN, out, callback=stop)
    assert list(fingerprints(out)) == ["1", "2"] and len(read_continual(out).outcomes) == 2
    (out / "picture.png").write_text("mine")
    heard: list[int] = []
    torch.rand(3)  # torch's own random numbers do not matter
    done = run_stream(
        tasks(), PLAN, out, callback=lambda result: heard.append(len(result.outcomes))
    )
    assert heard == [3]
    assert fingerprints(out) == fingerprints(whole)
    assert timeless(done) == timeless(read_continual(whole))
    assert (out / "picture.png").read_text() == "mine"


def test_stopped_within_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stream(tasks()[:1], PLAN, tmp_path / "run")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fxgrow.continual.run.save_master", interrupted)
    longer = read_continual(tmp_path / "run").model_copy(
        update={"labels": tuple(t.labels for t in tasks())}
    )
    (tmp_path / "run" / "result.json").write_text(text := longer.model_dump_json())
    with pytest.raises(KeyboardInterrupt):
        run_stream(tasks(), PLAN, tmp_path / "run")
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before | {tmp_path / "run" / "result.json": text.encode()}


def test_a_finished_run_is_left_alone(whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    assert run_stream(tasks(), PLAN, whole) == read_continual(whole)
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (PLAN.model_copy(update={"width": 5}), "width is 3, not 5"),
        (PLAN.model_copy(update={"seed": 1}), "seed is 0"),
    ],
)
def test_another_plan_is_refused(whole: Path, plan: StreamPlan, message: str) -> None:
    with pytest.raises(FxgrowError, match=message) as caught:
        run_stream(tasks(), plan, whole)
    assert caught.value.code == "other-run"


def test_what_is_no_stream_of_these_tasks(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(FxgrowError, match="other classes"):
        run_stream(tasks()[:2], PLAN, whole)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(FxgrowError, match="no stream of tasks") as caught:
        run_stream(tasks(), PLAN, tmp_path)
    assert caught.value.code == "other-run"
    (tmp_path / "file").touch()
    for place, code in (
        (tmp_path / "file", "directory-exists"),
        (tmp_path / "file" / "below", "unwritable-run"),
    ):
        with pytest.raises(FxgrowError) as caught:
            run_stream(tasks(), PLAN, place)
        assert caught.value.code == code
    with pytest.raises(FxgrowError) as caught:
        run_stream((), PLAN, tmp_path / "new")
    assert caught.value.code == "no-images"


def test_a_damaged_master_is_not_learnt_on(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(StoppedError):
        run_stream(tasks(), PLAN, out, callback=stop)
    record = json.loads((out / MASTER_DIRECTORY / RECORD).read_text())
    record["tasks"][0]["fingerprint"] = "0" * 64
    (out / MASTER_DIRECTORY / RECORD).write_text(json.dumps(record))
    with pytest.raises(FxgrowError) as caught:
        run_stream(tasks(), PLAN, out)
    assert caught.value.code == "forgotten"
    assert len(read_continual(out).outcomes) == 2


def test_force_starts_anew(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_stream(tasks()[:1], PLAN, out)
    other = PLAN.model_copy(update={"seed": 1})
    assert run_stream(tasks()[:1], other, out, force=True).plan.seed == 1
    assert read_continual(out).plan.seed == 1
