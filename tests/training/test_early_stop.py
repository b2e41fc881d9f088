"""A run ends when the loss on images that are set aside no longer falls; growth comes first."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fxgrow.data import Splits
from fxgrow.errors import TrainingError
from fxgrow.growth import Budget
from fxgrow.methods import ZeroOutgoing
from fxgrow.training import (
    AtEpochs,
    AtSteps,
    Checkpoints,
    EarlyStop,
    EpochDone,
    EqualPhases,
    Event,
    GrowthDone,
    JsonlLog,
    Measurement,
    OnPlateau,
    Run,
    RunEnded,
    RunSettings,
    StoppedEarly,
    TrainingHistory,
    run_result,
    train_and_grow,
)
from fxgrow.training.early_stop import growth_steps_left
from fxgrow.training.triggers import GrowWhen

# At this rate nothing is learnt, so the loss that was measured first stays the best.
IDLE = RunSettings(
    epochs=9, grow_steps=0, batch_size=48, growth_batches=2, growth_batch_size=16, lr=1e-9,
    validation=0.2, early_stop=EarlyStop(patience=1), accept_no_gain=True,
)  # fmt: skip


def run(model: nn.Module, data: Splits, settings: RunSettings, **options: Any) -> Run:
    return train_and_grow(
        model,
        data,
        settings,
        example_inputs=(data.train.images[:1],),
        method=ZeroOutgoing(),
        budget=Budget(neurons=2),
        **options,
    )


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10))


def test_epochs_are_counted_from_the_best_and_from_growth() -> None:
    losses = [3.0, 2.0, 2.5, 2.0, 1.99999, 2.1]
    measured = tuple(
        Measurement(epoch, epoch, 1.0, validation_loss=loss) for epoch, loss in enumerate(losses, 1)
    )
    due = [EarlyStop(patience=2).is_due(TrainingHistory(measured[:n])) for n in range(7)]
    assert due == [False, False, False, False, False, True, True]
    for growth in (4, 6):
        assert not EarlyStop(patience=2).is_due(TrainingHistory(measured, growths=(growth,)))


def test_a_run_stops_and_says_so(digits: Splits) -> None:
    events: list[Event] = []
    done = run(perceptron(), digits, IDLE, listeners=[events.append])
    assert len(done.epoch_seconds) == 3
    *_, stopped, ended = events
    assert stopped == StoppedEarly(epoch=3, patience=1) and isinstance(ended, RunEnded)
    result = run_result(done, IDLE, model="net", data="digits")
    assert (result.epochs, result.settings.epochs) == (3, 9)


@pytest.mark.parametrize(
    ("trigger", "left"),
    [
        (EqualPhases(), 3),
        (OnPlateau(), 3),
        (AtEpochs(epochs=(1, 4, 6)), 2),
        (AtEpochs(epochs=(1, 3)), 0),
        (AtSteps(steps=(10, 31, 35)), 2),
    ],
)
def test_what_it_leaves_out_is_counted(trigger: GrowWhen, left: int) -> None:
    measured = tuple(Measurement(epoch, 10 * epoch, 1.0) for epoch in (1, 2, 3))
    history = TrainingHistory(measured, growths=(1,), epochs=9, grow_steps=4)
    assert growth_steps_left(trigger, history) == left
    # A run grows at the end of an epoch that is not its last: here after the fourth alone.
    assert growth_steps_left(trigger, replace(history, epochs=5)) == min(left, 1)
    assert growth_steps_left(trigger, replace(history, grow_steps=1)) == 0


def test_a_stop_says_what_it_leaves_out(digits: Splits) -> None:
    settings = IDLE.model_copy(update={"grow_steps": 2, "grow_when": EqualPhases()})
    events: list[Event] = []
    done = run(perceptron(), digits, settings, listeners=[events.append])
    # The one after epoch 3 is due; the one after epoch 6 would have been.
    assert done.growth_epochs == (3,)
    assert events[-2] == StoppedEarly(epoch=5, patience=1, growth_steps_left=1)


def test_growth_that_is_due_comes_first_and_gives_new_patience(digits: Splits) -> None:
    settings = IDLE.model_copy(
        update={"grow_steps": 1, "grow_when": OnPlateau(patience=1, of="validation_loss")}
    )
    events: list[Event] = []
    done = run(perceptron(), digits, settings, listeners=[events.append])
    kinds = [type(event) for event in events if isinstance(event, (EpochDone, GrowthDone))]
    assert kinds == [EpochDone] * 3 + [GrowthDone] + [EpochDone] * 2
    assert done.growth_epochs == (3,)


class Stopped(Exception):  # noqa: N818
    """As Ctrl-C would."""


def test_it_is_resumed_to_the_same_end(digits: Splits, tmp_path: Path) -> None:
    """Stopped just before the decision after which it ends; the log tells of the end once."""
    settings = IDLE.model_copy(
        update={"grow_steps": 1, "grow_when": OnPlateau(patience=5, of="validation_loss")}
    )
    log = JsonlLog(tmp_path / "log.jsonl")

    def stop_at_the_end(event: Event) -> None:
        log(event)
        if isinstance(event, StoppedEarly):
            raise Stopped

    checkpoints = Checkpoints(tmp_path / "kept")
    torch.manual_seed(0)
    model = perceptron()
    with pytest.raises(Stopped):
        run(model, digits, settings, checkpoints=checkpoints, listeners=[stop_at_the_end])
    done = run(model, digits, settings, checkpoints=checkpoints, listeners=[log])
    assert len(done.epoch_seconds) == 3
    again = run(model, digits, settings, checkpoints=checkpoints, listeners=[log])
    assert again.after.test == done.after.test
    events = [json.loads(line)["event"] for line in log.path.read_text().splitlines()]
    assert events == ["run-started", *["epoch"] * 3, "stopped-early", "run-ended"]


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"early_stop": EarlyStop()}, "no-validation"),
        ({"early_stop": EarlyStop(patience=8), "validation": 0.1, "epochs": 9}, "bad-setting"),
    ],
)
def test_what_cannot_be(values: dict[str, Any], code: str) -> None:
    with pytest.raises(TrainingError) as caught:
        RunSettings(**values)
    assert caught.value.code == code
