"""Stopped runs that a stranger made: ``resume`` reads nothing that could wait or lead away, writes to no place that
only a file names, and deletes what a run wrote."""

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from fxgrow.cli.main import app
from fxgrow.documents import exclusive_lock
from fxgrow.errors import RecoveryWarning, RunError, SpecError
from fxgrow.training import BatchDone, Checkpoints, Event, new_run, stopped_run
from fxgrow.training.checkpoint import read_checkpoint
from fxgrow.training.events import RunResumed
from fxgrow.training.listeners.csv_log import CsvLog
from fxgrow.training.listeners.jsonl_log import JsonlLog
from fxgrow.training.listeners.registry import LOGGERS, LogPlace
from fxgrow.training.settings import RunSettings
from tests.attacks.attacking import CANARY, within_a_second

TINY = "tests.cli.models:tiny"
WORDS = (
    "--limit",
    "32",
    "--epochs",
    "2",
    "--batch-size",
    "32",
    "--grow-steps",
    "0",
    "--log",
    "csv",
)


class _Stop(Exception):  # noqa: N818 - as if the process were killed
    pass


def _stop_in_the_second_epoch(event: Event) -> None:
    if isinstance(event, BatchDone) and event.epoch == 2:
        raise _Stop


@pytest.fixture(scope="session")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that holds a run which was stopped after its first epoch."""
    place = tmp_path_factory.mktemp("stopped")
    csv, stop = LOGGERS["csv"], LOGGERS["csv"]

    def make(run: LogPlace) -> Callable[[Event], None]:
        log = csv.make(run)

        def told(event: Event) -> None:
            log(event)
            _stop_in_the_second_epoch(event)

        return told

    patch = pytest.MonkeyPatch()
    patch.setitem(LOGGERS, "csv", type(stop)(make, stop.output))  # type: ignore[arg-type]
    try:
        done = CliRunner().invoke(app, ["grow", TINY, "--out", str(place / "run"), *WORDS])
    finally:
        patch.undo()
    assert isinstance(done.exception, _Stop), done.output
    assert (place / ".run.unfinished" / "checkpoint-1").is_dir()
    return place


@pytest.fixture
def hidden(stopped: Path, tmp_path: Path) -> Path:
    """A copy of it, to damage."""
    shutil.copytree(stopped / ".run.unfinished", tmp_path / ".run.unfinished")
    (tmp_path / "secret").write_text("precious")
    return tmp_path / ".run.unfinished"


def resume(*words: object) -> Result:
    given = ["resume", "run", "--trust", "tests.cli.models", *map(str, words)]
    return CliRunner().invoke(app, given, prog_name="fxgrow")


def require_refused(result: Result, code: str) -> None:
    assert result.exit_code == 2, (result.exit_code, result.exception, result.output)
    assert f"[{code}]" in result.output
    assert Path("secret").read_text() == "precious"
    assert not Path("run").exists()
    assert not CANARY.exists()


def test_a_sound_one_goes_on(hidden: Path) -> None:
    done = resume()
    assert done.exit_code == 0, done.output
    assert not hidden.exists()


def replaced(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        place = path / name
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
        place.parent.mkdir(exist_ok=True)
        make(place)

    return change


def link(path: Path) -> None:
    path.symlink_to(Path("secret").absolute())


def thesis(path: Path) -> None:
    path.write_text("precious")


# What no run has written, and what would wait for ever or lead away.
FOREIGN: dict[str, Callable[[Path], None]] = {
    "a log that is a pipe": replaced("log.jsonl", os.mkfifo),
    "a table that is a pipe": replaced("metrics.csv", os.mkfifo),
    "a log that is a directory": replaced("log.jsonl", Path.mkdir),
    "a recipe that is a pipe": replaced("recipe.yaml", os.mkfifo),
    "notes that are a link": replaced("run.json", link),
    "a link among TensorBoard's files": replaced("tensorboard/events.out.tfevents.1", link),
    "a pipe among TensorBoard's files": replaced("tensorboard/events.out.tfevents.1", os.mkfifo),
    "a file among TensorBoard's": replaced("tensorboard/thesis.txt", thesis),
    "a file in a checkpoint": replaced("checkpoint-1/thesis.txt", thesis),
    "a file in one that is half written": replaced("checkpoint.partial/thesis.txt", thesis),
    "a link in a checkpoint": replaced("checkpoint-0/config.json", link),
    "a checkpoint that is a file": replaced("checkpoint-2", thesis),
    "a file": replaced("thesis.txt", thesis),
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN.keys())
def test_what_no_run_has_written_stops_it(change: Callable[[Path], None], hidden: Path) -> None:
    change(hidden)
    before = sorted(hidden.rglob("*"))
    require_refused(resume(), "foreign-directory")
    assert sorted(hidden.rglob("*")) == before
    # Nor is it cleared away for a run that starts anew.
    with (
        pytest.raises(RunError, match="which no run has written"),
        new_run(Path("run"), force=True),
    ):
        pass
    assert sorted(hidden.rglob("*")) == before


def test_a_file_that_appears_meanwhile_is_kept(hidden: Path) -> None:
    with pytest.warns(RecoveryWarning, match=r"'thesis.txt'.* is kept"), stopped_run(Path("run")):
        (hidden / "checkpoint-1" / "thesis.txt").write_text("precious")
    assert (hidden / "checkpoint-1" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize("content", ["precious", "1\n2\n", "1" * 80, "\0"])
def test_a_lock_that_is_something_else_is_kept(content: str, hidden: Path) -> None:
    Path("secret").write_text(content)
    (hidden / "lock").unlink()
    os.link("secret", hidden / "lock")
    result = resume()
    assert result.exit_code == 2 and "[unwritable-run]" in result.output
    assert Path("secret").read_text() == content


def test_a_lock_that_is_a_pipe() -> None:
    os.mkfifo("lock")
    with pytest.raises(OSError, match="is no lock"), exclusive_lock(Path("lock")):
        pass


def test_a_run_is_not_made_behind_a_link(hidden: Path) -> None:
    hidden.rename("elsewhere")
    hidden.symlink_to(Path("elsewhere").absolute())
    for make in (new_run, stopped_run):
        with pytest.raises(RunError) as caught, make(Path("run")):
            pass
        assert caught.value.code in ("foreign-directory", "nothing-to-resume")
    assert (Path("elsewhere") / "checkpoint-1").is_dir()


@pytest.mark.parametrize("name", ["log.jsonl", "result.json"])
def test_a_pipe_in_the_place_of_the_finished_run(name: str, hidden: Path) -> None:
    Path("run").mkdir()
    os.mkfifo(Path("run") / name)
    result = resume()
    assert result.exit_code == 2 and "[directory-exists]" in result.output
    shutil.rmtree(hidden)
    with pytest.raises(RunError, match="holds no run"), stopped_run(Path("run")):
        pass


def noted(**values: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        notes = json.loads((path / "run.json").read_text())
        (path / "run.json").write_text(json.dumps(notes | values))

    return change


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"threads": 0}, "bad-value"),
        ({"threads": -1}, "bad-value"),
        ({"threads": 10**6}, "bad-value"),
        ({"threads": 2**40}, "bad-value"),
        ({"device": "c" * 5000}, "too-large"),
        ({"device": "cuda:" + "9" * 20}, "no-device"),
        ({"loggers": ["csv"] * 5000}, "too-large"),
        ({"loggers": ["os:system"]}, "bad-setting"),
        ({"graphs": "x" * 10_000}, "too-large"),
        ({"graphs": "elsewhere"}, "unnamed-output"),
        ({"graphs": "/etc/elsewhere", "force": True}, "unnamed-output"),
    ],
    ids=str,
)
def test_notes_that_ask_for_too_much(values: dict[str, Any], code: str, hidden: Path) -> None:
    noted(**values)(hidden)
    require_refused(resume(), code)


RESUMED = RunResumed(RunSettings(epochs=2, grow_steps=0), 1, 1, False)
LOGS = {
    "no JSON": "nonsense\n",
    "a list": "[1]\n",
    "a text as the epoch": '{"event": "epoch", "epoch": "x"}\n',
    "an infinite epoch": '{"event": "epoch", "epoch": 1e999}\n',
    "a list as the epoch": '{"event": "epoch", "epoch": [1]}\n',
    "a deep one": "[" * 200_000 + "\n",
    "an epoch of 5,000 digits": '{"event": "epoch", "epoch": ' + "1" * 5000 + "}\n",
}
TABLES = {
    "one cell": "x\n",
    "an empty line": "\n",
    "a null byte": "a,\0\n",
    "a long cell": "epoch," + "1" * 200_000 + "\n",
    "an infinite epoch": "epoch,inf\n",
}


@pytest.mark.parametrize("line", LOGS.values(), ids=LOGS.keys())
def test_a_log_that_no_run_has_written(line: str) -> None:
    Path("log.jsonl").write_text('{"event": "epoch", "epoch": 1}\n' + line)
    with within_a_second(), pytest.raises(SpecError) as caught:
        JsonlLog(Path("log.jsonl"))(RESUMED)
    assert caught.value.path == "log.jsonl, line 2"
    assert Path("log.jsonl").read_text().endswith(line)


@pytest.mark.parametrize("line", TABLES.values(), ids=TABLES.keys())
def test_a_table_that_no_run_has_written(line: str) -> None:
    Path("metrics.csv").write_text("epoch,1\n" + line)
    with within_a_second(), pytest.raises(SpecError) as caught:
        CsvLog(Path("metrics.csv"))(RESUMED)
    assert caught.value.path == "metrics.csv, line 2"
    assert Path("metrics.csv").read_text().endswith(line)


@pytest.mark.parametrize("make", [JsonlLog, CsvLog])
def test_a_log_that_is_no_text(make: Callable[[Path], Any]) -> None:
    Path("log").write_bytes(b"\xff\xfe\n")
    with pytest.raises(SpecError):
        make(Path("log"))(RESUMED)


def sealed(checkpoint: Path) -> None:
    """Let the hashes fit, so that a rule and not a hash refuses."""
    hashes = {}
    for name in ("config.json", "state.json", "state.safetensors"):
        hashes[name] = hashlib.sha256((checkpoint / name).read_bytes()).hexdigest()
    (checkpoint / "manifest.json").write_text(json.dumps({"schema_version": 1, "files": hashes}))


def stated(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def changed(checkpoint: Path) -> None:
        state = json.loads((checkpoint / "state.json").read_text())
        change(state)
        (checkpoint / "state.json").write_text(json.dumps(state))

    return changed


def holding(name: str, data: bytes) -> Callable[[Path], None]:
    def changed(checkpoint: Path) -> None:
        (checkpoint / name).write_bytes(data)

    return changed


def header(tensors: dict[str, Any], content: bytes = b"") -> bytes:
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text + content


def four(begin: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [4], "data_offsets": [begin, begin + 16]}


def swapped(checkpoint: Path) -> None:
    tensors = load_file(checkpoint / "state.safetensors")
    tensors["../../canary"] = torch.zeros(1)
    save_file(tensors, checkpoint / "state.safetensors")
    (checkpoint / "config.json").write_text("{}")


CHECKPOINTS: dict[str, Callable[[Path], None]] = {
    "a header of 2^60 bytes": holding("state.safetensors", struct.pack("<Q", 2**60) + b"{}"),
    "an empty file of tensors": holding("state.safetensors", b""),
    "tensors over each other": holding(
        "state.safetensors", header({"a": four(0), "b": four(8)}, bytes(24))
    ),
    "sizes that overflow": holding(
        "state.safetensors",
        header({"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}}),
    ),
    "a pickle": holding("state.safetensors", b"\x80\x04cos\nsystem\n(S'touch canary'\ntR."),
    "another architecture": swapped,
    "values without end": holding(
        "state.json", b'{"schema_version":1,"values":[' + b"[],"[:2] * 10
    ),
    "too many values": holding("state.json", b"[" + b"0," * (2**24 + 1) + b"0]"),
    "a deep state": holding("state.json", b"[" * 100_000),
    "an epoch from afar": stated(
        lambda state: state["history"]["measurements"][0].update(epoch=9**30)
    ),
    "an epoch before the first": stated(
        lambda state: state["history"]["measurements"][0].update(epoch=-5)
    ),
    "growth before the beginning": stated(lambda state: state["history"].update(growths=[-7])),
    "growth after the end": stated(lambda state: state["history"].update(growths=[2])),
    "growth backwards": stated(lambda state: state["history"].update(growths=[1, 0])),
    "times that are no numbers": stated(lambda state: state.update(seconds=[float("nan")])),
    "versions that clear the screen": stated(
        lambda state: state.update(versions={"torch": "\x1b[2J"})
    ),
}


@pytest.mark.parametrize("change", CHECKPOINTS.values(), ids=CHECKPOINTS.keys())
def test_a_checkpoint_that_no_run_has_written(change: Callable[[Path], None], hidden: Path) -> None:
    change(hidden / "checkpoint-1")
    sealed(hidden / "checkpoint-1")
    with within_a_second(), pytest.raises(SpecError):
        read_checkpoint(hidden / "checkpoint-1")
    assert not CANARY.exists()


def test_the_checkpoints_of_another_tool_are_kept() -> None:
    """Others name theirs ``checkpoint-500``, too."""
    for name in ("checkpoint-0", "checkpoint-500"):
        Path("kept", name).mkdir(parents=True)
        Path("kept", name, "pytorch_model.bin").write_text("precious")
    with pytest.raises(RunError, match="which no run has written") as caught:
        Checkpoints(Path("kept")).last()
    assert caught.value.code == "foreign-directory"
    assert len(list(Path("kept").rglob("*.bin"))) == 2
