"""A run that was stopped anywhere goes on to the same bits; what is damaged is found, and said."""

import json
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fxgrow import NewEntryRate
from fxgrow.data import Splits
from fxgrow.errors import RecoveryWarning, RunError, SpecError
from fxgrow.growth import Budget, Method, Scope
from fxgrow.methods import AutoGrow, Firefly, ZeroOutgoing
from fxgrow.training import (
    AdamWSettings,
    AtEpochs,
    Augmentation,
    BatchDone,
    ByPromise,
    Checkpoints,
    Compilation,
    CosineRate,
    Event,
    GrowthDone,
    GrowthStarted,
    JsonlLog,
    MovingAverage,
    OnFullRank,
    OnPlateau,
    Run,
    RunEnded,
    RunResumed,
    RunSettings,
    StepRate,
    run_result,
    train_and_grow,
)
from fxgrow.training.checkpoint import MANIFEST, STATE, TENSORS, read_checkpoint
from tests.cli.models import residual
from tools.soak import without_times

SETTINGS = RunSettings(
    epochs=3,
    grow_steps=2,
    batch_size=48,
    growth_batches=2,
    growth_batch_size=16,
    accept_no_gain=True,
    lr=0.05,
)


ZERO = ZeroOutgoing()


class Stopped(Exception):  # noqa: N818 - it is no error
    """As Ctrl-C would."""


def run(
    model: nn.Module,
    data: Splits,
    settings: RunSettings = SETTINGS,
    method: Method = ZERO,
    *,
    into: Path | None = None,
    stop: Callable[[Event], bool] = lambda event: False,
    log: Callable[[Event], None] = lambda event: None,
) -> Run:
    def callback(event: Event) -> None:
        log(event)
        if stop(event):
            raise Stopped

    return train_and_grow(
        model,
        data,
        settings,
        example_inputs=(data.train.images[:1],),
        method=method,
        budget=Budget(neurons=3, layers=2 if isinstance(method, AutoGrow) else None),
        listeners=[callback],
        checkpoints=None if into is None else Checkpoints(into),
    )


def numbers(done: Run, settings: RunSettings = SETTINGS) -> dict[str, Any]:
    """``result.json`` but for times."""
    result = run_result(done, settings, model="net", data="digits")
    return without_times(result.model_dump(mode="json"))


def require_same_bits(one: Run, other: Run, settings: RunSettings = SETTINGS) -> None:
    for a, b in ((one.initial, other.initial), (one.final, other.final)):
        first, second = a.module.state_dict(), b.module.state_dict()
        assert first.keys() == second.keys()
        for name, tensor in first.items():
            assert torch.equal(tensor, second[name]), name
        assert a.spec == b.spec
        assert type(a.module).__name__ == type(b.module).__name__
    assert numbers(one, settings) == numbers(other, settings)


def at_batch(epoch: int, batch: int) -> Callable[[Event], bool]:
    return lambda event: (
        isinstance(event, BatchDone)
        and (event.epoch, event.batch)
        == (
            epoch,
            batch,
        )
    )


def in_growth(step: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, GrowthStarted) and event.step == step


def after_growth(step: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, GrowthDone) and event.step == step


MOMENTS = [at_batch(1, 1), in_growth(1), after_growth(1), at_batch(2, 2), in_growth(2)]


def test_a_run_that_is_stopped_again_and_again_ends_with_the_same_bits(
    model: nn.Module, digits: Splits, tmp_path: Path
) -> None:
    whole = run(model, digits)
    for count, stop in enumerate(MOMENTS):
        with pytest.raises(Stopped):
            run(model, digits, into=tmp_path / "kept", stop=stop)
        torch.manual_seed(count)  # whatever others draw in between
    require_same_bits(run(model, digits, into=tmp_path / "kept"), whole)


ADAMW: dict[str, Any] = {
    "optimizer": AdamWSettings(betas=(0.8, 0.99)),
    "schedule": CosineRate(warmup=1.5),
    "label_smoothing": 0.1,
    "clip": 0.5,
}
AUGMENTATION = Augmentation(flip=0.5, crop=1, rand_augment=2, erase=0.5, mixup=0.4)
TRIED: dict[str, Any] = {"epochs": 4, "ema": MovingAverage(publish=False)}
KINDS: list[tuple[Method, dict[str, Any]]] = [
    (Firefly(new=1, steps=1), {"momentum": 0.0}),
    (ZeroOutgoing(), {"state": "own-age", "new_entry_rate": NewEntryRate()}),
    (AutoGrow(layers=1), {}),
    (ZeroOutgoing(), {"grow_when": OnFullRank(share=0.01), "validation": 0.2}),
    (Firefly(new=1, steps=1), {"grow_when": ByPromise(), "epochs": 4, "lr": 1e-12}),
    (ZeroOutgoing(), ADAMW),
    (ZeroOutgoing(), ADAMW | {"state": "own-age", "schedule": StepRate(warmup_steps=2)}),
    (ZeroOutgoing(), {"augmentation": AUGMENTATION}),
    (ZeroOutgoing(), {"ema": MovingAverage(decay=0.9), "precision": "bfloat16"}),
    (Firefly(new=1, steps=1), {"grow_when": ByPromise(), "lr": 1e-12} | TRIED),
    (ZeroOutgoing(), {"compile": Compilation(backend="eager")}),
]


@pytest.mark.parametrize(("method", "changes"), KINDS)
def test_whatever_grows_how_and_when(
    model: nn.Module, digits: Splits, method: Method, changes: dict[str, Any], tmp_path: Path
) -> None:
    """Stopped in the last epoch, when everything that grew has to grow again."""
    settings = SETTINGS.model_copy(update={"grow_steps": 1} | changes)
    whole = run(model, digits, settings, method)
    assert whole.records, "it grows"
    with pytest.raises(Stopped):
        run(model, digits, settings, method, into=tmp_path, stop=at_batch(settings.epochs, 1))
    again = run(model, digits, settings, method, into=tmp_path)
    assert again.growths == ()
    require_same_bits(again, whole, settings)


def test_blocks_that_were_bought_are_there_again(digits: Splits, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(
        update={"ema": MovingAverage(decay=0.9), "epochs": 2, "grow_steps": 1}
    )

    def done(into: Path | None = None, stop: bool = False) -> Run:
        torch.manual_seed(0)
        network, inputs = residual(layers=2)

        def callback(event: Event) -> None:
            if stop and at_batch(2, 1)(event):
                raise Stopped

        return train_and_grow(
            network,
            digits,
            settings,
            example_inputs=inputs,
            method=Firefly(new=2, steps=1, refine_steps=1),
            budget=Budget(parameters=0.9, layers=1),
            scope=Scope(blocks=("1",)),
            listeners=[callback],
            checkpoints=None if into is None else Checkpoints(into),
        )

    whole = done()
    (step,) = whole.final.spec.history
    assert step.num_blocks == 1 and step.widths
    with pytest.raises(Stopped):
        done(tmp_path, stop=True)
    require_same_bits(done(tmp_path), whole, settings)


def test_the_model_draws_from_everybody_s_generators(digits: Splits, tmp_path: Path) -> None:
    """Dropout draws from torch, and this module from numpy and Python: all go on where they were."""

    class Noisy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * (1 + np.random.rand() + random.random()) if self.training else x

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Dropout(0.3), nn.Linear(4, 10), Noisy()
    )
    runs: list[Run] = []
    for stop in (lambda event: False, at_batch(2, 1)):
        random.seed(0)
        np.random.seed(0)
        into = tmp_path / str(len(runs))
        try:
            runs.append(run(model, digits, into=into, stop=stop))
        except Stopped:
            np.random.seed(99)
            runs.append(run(model, digits, into=into))
    require_same_bits(*runs)


def test_frozen_parameters_stay_frozen_and_batch_norms_go_on(
    model: nn.Module, digits: Splits, tmp_path: Path
) -> None:
    model[0].weight.requires_grad_(requires_grad=False)
    whole = run(model, digits)
    with pytest.raises(Stopped):
        run(model, digits, into=tmp_path, stop=at_batch(3, 1))
    again = run(model, digits, into=tmp_path)
    require_same_bits(whole, again)
    assert not again.final.module[0].weight.requires_grad
    assert again.final.module[4].weight.requires_grad


def test_the_first_and_the_last_two_are_kept(
    model: nn.Module, digits: Splits, tmp_path: Path
) -> None:
    kept = Checkpoints(tmp_path)
    run(model, digits, into=tmp_path)
    # Before the first epoch, after three epochs, and after two growth steps.
    assert kept.numbers == [0, 4, 5]
    last = kept.last()
    assert last is not None and len(last.state.seconds) == 3 and len(last.spec.history) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-0",
        "checkpoint-4",
        "checkpoint-5",
    ]


def test_a_finished_run_is_only_evaluated_again(
    model: nn.Module, digits: Splits, tmp_path: Path
) -> None:
    first = run(model, digits, into=tmp_path)
    events: list[Event] = []
    second = run(model, digits, into=tmp_path, log=events.append)
    assert [type(event) for event in events] == [RunResumed, RunEnded]
    require_same_bits(first, second)
    assert second.growths == () and second.growth_epochs == first.growth_epochs == (1, 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("name", [STATE, TENSORS, MANIFEST, "config.json"])
@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    stopped: Path, damage: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    shutil.copytree(stopped, tmp_path / "kept")
    damage(tmp_path / "kept" / "checkpoint-4" / name)
    if name == MANIFEST and damage is cut:  # only the line feed at the end
        (tmp_path / "kept" / "checkpoint-4" / name).write_text("{}")
    with pytest.warns(RecoveryWarning, match=r"checkpoint-4 is damaged .* the one before it"):
        last = Checkpoints(tmp_path / "kept").last()
    assert last is not None and len(last.state.seconds) == 2


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of a run that was stopped in its third epoch."""
    from fxgrow.data import load_data

    directory = tmp_path_factory.mktemp("stopped") / "kept"
    with pytest.raises(Stopped):
        run(
            plain(),
            load_data("digits", channels=1, size=8, train_size=97),
            into=directory,
            stop=at_batch(3, 1),
        )
    return directory


def plain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10))


def test_after_damage_it_still_ends_with_the_same_bits(
    stopped: Path, digits: Splits, tmp_path: Path
) -> None:
    shutil.copytree(stopped, tmp_path / "kept")
    for name in ("checkpoint-4", "checkpoint-0"):
        flip(tmp_path / "kept" / name / TENSORS)
    with pytest.warns(RecoveryWarning) as warned:
        again = run(plain(), digits, into=tmp_path / "kept")
    assert len(warned) == 2 and "is built again" in str(warned[1].message)
    require_same_bits(again, run(plain(), digits))
    assert Checkpoints(tmp_path / "kept").numbers == [0, 4, 5]


def test_without_a_sound_one_it_says_so(stopped: Path, digits: Splits, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "kept")
    for number in (0, 3, 4):
        cut(tmp_path / "kept" / f"checkpoint-{number}" / STATE)
    with pytest.warns(RecoveryWarning), pytest.raises(RunError) as caught:
        run(plain(), digits, into=tmp_path / "kept")
    assert caught.value.code == "damaged-checkpoint"


@pytest.mark.parametrize("change", [{"lr": 0.06}, {"seed": 1}, {"epochs": 9}])
def test_another_run_does_not_go_on_from_it(
    stopped: Path, digits: Splits, change: dict[str, Any]
) -> None:
    with pytest.raises(RunError) as caught:
        run(plain(), digits, SETTINGS.model_copy(update=change), into=stopped)
    assert caught.value.code == "other-run"


def test_other_data_or_another_method_is_another_run(stopped: Path, digits: Splits) -> None:
    labels = digits.train.labels.clone()
    labels[0] += 1
    from dataclasses import replace

    other = replace(digits, train=replace(digits.train, labels=labels))
    for data, method in ((other, ZeroOutgoing()), (digits, Firefly())):
        with pytest.raises(RunError) as caught:
            run(plain(), data, method=method, into=stopped)
        assert caught.value.code == "other-run"


def rewritten(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change state.json as somebody would who knows of hashes."""
    from fxgrow.documents import sha256

    state = json.loads((directory / STATE).read_text())
    change(state)
    (directory / STATE).write_text(json.dumps(state))
    manifest = json.loads((directory / MANIFEST).read_text())
    manifest["files"][STATE] = sha256(directory / STATE)
    (directory / MANIFEST).write_text(json.dumps(manifest))


def row(tree: dict[str, Any], key: str) -> list[Any]:
    (found,) = (row for row in tree["table"] if row[0] == key)
    return found


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "a version to come": lambda state: state.update(schema_version=2),
    "an unknown key": lambda state: state.update(code="import os"),
    "a wrong type": lambda state: state.update(undecided="no"),
    "more epochs than measured": lambda state: state.update(seconds=[1.0] * 9),
    "no time": lambda state: state.update(seconds=[math.nan, 1.0]),
    "no values": lambda state: state.update(values={"table": []}),
    "an unknown parameter": lambda state: row(
        row(state["values"], "optimizer")[1], "state"
    ).__setitem__(1, {"table": [["nowhere", {"table": []}]]}),
    "no groups": lambda state: row(row(state["values"], "optimizer")[1], "groups").__setitem__(
        1, [1]
    ),
    "an empty group": lambda state: row(row(state["values"], "optimizer")[1], "groups").__setitem__(
        1, [{"table": [["params", []]]}]
    ),
    "no generator": lambda state: row(state["values"], "shuffle").__setitem__(1, "random"),
    "another tensor": lambda state: row(state["values"], "shuffle").__setitem__(
        1, {"tensor": "model.1.weight"}
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_run_has_written_is_refused(
    stopped: Path, digits: Splits, name: str, tmp_path: Path
) -> None:
    """With hashes that fit: it is refused, by an error with a code, whoever wrote it."""
    shutil.copytree(stopped / "checkpoint-4", tmp_path / "checkpoint-4")
    rewritten(tmp_path / "checkpoint-4", HOSTILE[name])

    def go_on() -> None:
        read_checkpoint(tmp_path / "checkpoint-4")  # else it is the run that finds it
        run(plain(), digits, into=tmp_path)

    with pytest.raises(SpecError) as caught:
        go_on()
    assert caught.value.code in ("schema-version", "unknown-key", "bad-value")


def test_other_versions_are_told(stopped: Path, digits: Splits, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(stopped, kept)
    rewritten(kept / "checkpoint-4", lambda state: state["versions"].update(torch="2.10.0"))
    with pytest.warns(RecoveryWarning, match=r"torch .* instead of 2\.10\.0: its numbers may"):
        run(plain(), digits, into=kept)


def test_losses_that_are_no_numbers_come_back(stopped: Path, tmp_path: Path) -> None:
    """Training instead of growth may have diverged, and so may the loss on other images."""
    shutil.copytree(stopped / "checkpoint-4", tmp_path / "checkpoint-4")

    def change(state: dict[str, Any]) -> None:
        state["records"][0]["control"]["loss_trained"] = math.nan
        state["history"]["measurements"][0]["validation_loss"] = math.inf

    rewritten(tmp_path / "checkpoint-4", change)
    checkpoint = read_checkpoint(tmp_path / "checkpoint-4")
    for _ in range(2):
        assert math.isnan(checkpoint.state.records[0].control.loss_trained)
        assert checkpoint.state.history.measurements[0].validation_loss == math.inf
        text = checkpoint.state.model_dump_json()
        again = type(checkpoint.state).model_validate_json(text, strict=True)
        assert again.history == checkpoint.state.history
        checkpoint = type(checkpoint)(again, checkpoint.spec, checkpoint.tensors)


def test_the_log_goes_on_where_the_checkpoint_is(
    model: nn.Module, digits: Splits, tmp_path: Path
) -> None:
    """Each event stands in it once, whenever the run was stopped."""
    path = tmp_path / "log.jsonl"
    for stop in (at_batch(1, 1), after_growth(1), at_batch(2, 2), in_growth(2), at_batch(3, 1)):
        with pytest.raises(Stopped):
            run(model, digits, into=tmp_path, stop=stop, log=JsonlLog(path))
        with path.open("a") as file:
            file.write('{"event": "epo')  # torn by a failure of power
    run(model, digits, into=tmp_path, log=JsonlLog(path))
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(event["event"], event.get("epoch")) for event in events] == [
        ("run-started", None), ("epoch", 1), ("growth", 1), ("epoch", 2), ("growth", 2), ("epoch", 3),
        ("run-ended", 3),
    ]  # fmt: skip


@pytest.mark.parametrize("trigger", [AtEpochs(epochs=(2,)), OnPlateau(patience=0, min_delta=0.9)])
def test_triggers_go_on_as_if_nothing_had_happened(
    digits: Splits, trigger: Any, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"grow_when": trigger, "epochs": 4})
    whole = run(plain(), digits, settings)
    for epoch in (2, 3, 4):
        with pytest.raises(Stopped):
            run(plain(), digits, settings, into=tmp_path, stop=at_batch(epoch, 1))
    require_same_bits(run(plain(), digits, settings, into=tmp_path), whole, settings)
