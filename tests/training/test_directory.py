import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fxgrow.data import Splits
from fxgrow.documents.atomic import recover_directory
from fxgrow.errors import RunError, SpecError
from fxgrow.growth import Budget
from fxgrow.methods import Firefly
from fxgrow.spec import diff, load, read_spec
from fxgrow.training import (
    JsonlLog,
    RunSettings,
    read_result,
    run_directory,
    run_result,
    train_and_grow,
    write_run,
)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_everything_of_a_run(model: nn.Module, digits: Splits, tmp_path: Path) -> None:
    settings = RunSettings(epochs=2, grow_steps=1, growth_batches=1)
    with run_directory(tmp_path / "a" / "run") as staging:
        run = train_and_grow(
            model,
            digits,
            settings,
            example_inputs=(digits.train.images[:1],),
            method=Firefly(steps=1),
            budget=Budget(neurons=2),
            listeners=[JsonlLog(staging / "log.jsonl")],
        )
        result = run_result(run, settings, model="net", data="digits")
        written = write_run(staging, run, result)
        assert not (tmp_path / "a" / "run").exists()
    directory = tmp_path / "a" / "run"
    assert names(tmp_path / "a") == ["run"]
    assert names(directory) == [
        "config.json",
        "initial",
        "log.jsonl",
        "model.safetensors",
        "result.json",
    ]
    assert (read_spec(directory / "initial"), read_spec(directory)) == (
        written.initial,
        written.final,
    )
    assert sum(w.split + w.new for w in diff(written.initial, written.final).widths) == 2
    images = digits.test.images[:5]
    assert torch.equal(load(directory)(images), run.final.module.eval()(images))
    assert torch.equal(load(directory / "initial")(images), model.eval()(images))
    assert read_result(directory) == result
    assert [json.loads(line)["event"] for line in (directory / "log.jsonl").read_text().splitlines()] == [
        "run-started", "epoch", "growth", "epoch", "run-ended",
    ]  # fmt: skip


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_run_leaves_nothing(error: type[BaseException], tmp_path: Path) -> None:
    def fail() -> None:
        with run_directory(tmp_path / "run") as staging:
            (staging / "log.jsonl").write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == []


def test_an_existing_directory_is_kept(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(RunError, match="exists already") as caught, run_directory(tmp_path / "run"):
        pass
    assert caught.value.code == "directory-exists"
    assert names(tmp_path) == ["run"]


CONFIG = '{"schema_version": 2, "fingerprint": "", "inputs": [], "nodes": [], "cost": {}}'
RESULT = {
    "model": "",
    "data": "",
    "settings": {},
    "params_before": 1,
    "params_after": 1,
    "steps": [],
}
OLD = {
    "config.json": CONFIG,
    "result.json": json.dumps({"schema_version": 1, **RESULT}),
    "log.jsonl": '{"event": "run-started"}\n{"eve',
}


@pytest.mark.parametrize("holds", [[], ["result.json", "log.jsonl"], ["config.json"]])
def test_replacing_a_run(holds: list[str], tmp_path: Path) -> None:
    target = tmp_path / "run"
    target.mkdir()
    for name in holds:
        (target / name).write_text(OLD[name])
    with run_directory(target, replace=True) as staging:
        assert names(target) == sorted(holds)
        (staging / "result.json").write_text("new")
    assert names(tmp_path) == ["run"]
    assert names(target) == ["result.json"]
    assert (target / "result.json").read_text() == "new"


def foreign(target: Path) -> None:
    target.mkdir()
    (target / "thesis.txt").touch()


def a_checkpoint(target: Path) -> None:
    """As others save theirs."""
    target.mkdir()
    (target / "config.json").write_text('{"architectures": ["BertModel"], "hidden_size": 768}')
    (target / "train.py").write_text("months = 3")


def a_run_with_notes(target: Path) -> None:
    target.mkdir()
    for name, text in OLD.items():
        (target / name).write_text(text)
    (target / "initial").mkdir()
    (target / "initial" / "notes.txt").touch()


def a_run_with_a_link(target: Path) -> None:
    target.mkdir()
    (target.parent / "config.json").write_text(CONFIG)
    (target / "config.json").symlink_to(target.parent / "config.json")


def a_file(target: Path) -> None:
    target.touch()


def a_link(target: Path) -> None:
    (target.parent / "elsewhere").mkdir()
    target.symlink_to(target.parent / "elsewhere")


@pytest.mark.parametrize(
    "make", [foreign, a_checkpoint, a_run_with_notes, a_run_with_a_link, a_file, a_link]
)
def test_what_is_no_run_is_never_replaced(make: object, tmp_path: Path) -> None:
    assert callable(make)
    make(tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunError) as caught, run_directory(tmp_path / "run", replace=True):
        pass
    assert caught.value.code == "foreign-directory"
    assert sorted(tmp_path.rglob("*")) == before


def test_one_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="exists already"), run_directory(tmp_path / "run"):
        foreign(tmp_path / "run")
    assert names(tmp_path) == ["run"]
    assert names(tmp_path / "run") == ["thesis.txt"]


def test_what_is_put_in_meanwhile_is_kept(tmp_path: Path) -> None:
    a_run_with_notes(tmp_path / "run")
    (tmp_path / "run" / "initial" / "notes.txt").unlink()
    with (
        pytest.raises(RunError, match=r"'notes\.txt'"),
        run_directory(tmp_path / "run", replace=True),
    ):
        (tmp_path / "run" / "notes.txt").write_text("mine")
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert names(tmp_path) == ["run"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError) as caught, run_directory(tmp_path / "file" / "run"):
        pass
    assert caught.value.code == "unwritable-run"


@pytest.mark.parametrize(
    ("change", "code", "path"),
    [
        ({"schema_version": 9}, "schema-version", "schema_version"),
        ({"backtracks": "3"}, "bad-value", "backtracks"),
        ({"surprise": 1}, "unknown-key", "surprise"),
        ({"loss_after": float("nan")}, "bad-json", "result.json"),
        ({"steps": [{}]}, "missing-key", "steps.0.loss_before"),
    ],
)
def test_a_result_is_checked(change: dict[str, Any], code: str, path: str, tmp_path: Path) -> None:
    numbers = (
        "loss_before",
        "loss_after",
        "test_accuracy_before",
        "test_accuracy_after",
        "faithful_error",
    )
    counts = ("seed", "params_before", "params_after", "backtracks")
    sound = {
        **dict.fromkeys((*numbers, "growth_seconds", "epoch_seconds"), 0.5),
        **dict.fromkeys(counts, 3),
        "schema_version": 2,
        "model": "net",
        "data": "digits",
        "settings": {},
        "versions": {},
        "steps": [],
    }
    (tmp_path / "result.json").write_text(json.dumps(sound))
    assert read_result(tmp_path).backtracks == 3
    (tmp_path / "result.json").write_text(json.dumps(sound | change))
    with pytest.raises(SpecError) as caught:
        read_result(tmp_path)
    assert (caught.value.code, caught.value.path) == (code, path)


def test_what_lies_aside_comes_back(tmp_path: Path) -> None:
    aside, foreign = tmp_path / f".run.{'0' * 32}.old", tmp_path / ".run.mine.old"
    for path in (aside, foreign):
        path.mkdir()
    recover_directory(tmp_path / "other")
    recover_directory(tmp_path / "missing" / "run")
    assert names(tmp_path) == sorted((aside.name, foreign.name))
    recover_directory(tmp_path / "run")
    assert names(tmp_path) == [foreign.name, "run"]
    aside.mkdir()
    recover_directory(tmp_path / "run")
    assert names(tmp_path) == sorted((aside.name, foreign.name, "run"))


def test_a_run_that_lies_aside_is_there(tmp_path: Path) -> None:
    a_run_with_notes(tmp_path / f".run.{'0' * 32}.old")
    with pytest.raises(RunError) as caught, run_directory(tmp_path / "run"):
        pass
    assert caught.value.code == "directory-exists"
    assert (tmp_path / "run" / "initial" / "notes.txt").exists()
