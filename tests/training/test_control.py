"""Every growth step of a run is held against training for the same time."""

import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from fxgrow import Budget, ZeroOutgoing
from fxgrow.data import Splits, batches
from fxgrow.growth import Batch
from fxgrow.report import step_verdict
from fxgrow.training import (
    RunSettings,
    StepResult,
    cross_entropy,
    run_result,
    run_state,
    train_and_grow,
)
from fxgrow.training.control import control
from fxgrow.training.evaluate import evaluate
from fxgrow.training.growth_request import growth_batches
from fxgrow.training.sgd import training_batches


def compared(model: nn.Module, digits: Splits, lr: float, seconds: float = 0.2):  # type: ignore[no-untyped-def]
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    kept = list(batches(digits.train, 32, limit=2))
    test = batches(digits.test, 256)
    train = training_batches(digits.train, 32, torch.Generator().manual_seed(0))
    return control(model, optimizer, 0.5, seconds, train, kept, test)


def test_a_copy_is_trained(model: nn.Module, digits: Splits) -> None:
    before = copy.deepcopy(model.state_dict())
    found = compared(model.eval(), digits, lr=0.05)
    assert found.steps > 4  # more than one pass over four batches
    assert found.loss_trained < found.loss_before
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert not model.training and all(p.grad is None for p in model.parameters())


def test_statistics_are_those_that_growth_estimates(model: nn.Module, digits: Splits) -> None:
    """A method that keeps the function has the same loss before and after, but for rounding."""
    settings = RunSettings(epochs=2, grow_steps=1, batch_size=32, growth_batch_size=16)
    frozen = model[1]
    frozen.weight.requires_grad_(False)  # this one keeps its statistics
    run = train_and_grow(
        model, digits, settings, example_inputs=(digits.train.images[:1],),
        method=ZeroOutgoing(), budget=Budget(neurons=4),
    )  # fmt: skip
    (against,) = run.controls
    assert against.loss_grown == pytest.approx(against.loss_before, rel=1e-5)
    stale = evaluate(model, batches(digits.test, 256)).loss
    assert abs(compared(model, digits, lr=0.05).loss_before - stale) > 1e-3


def test_no_more_images_are_kept_than_growth_can_use(
    model: nn.Module, digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run would hold all training images a second time."""
    taken = []

    def watched(*arguments: Any) -> Iterator[Batch]:
        for batch in growth_batches(*arguments):
            taken.append(batch)
            yield batch

    monkeypatch.setattr(run_state, "growth_batches", watched)
    settings = RunSettings(epochs=2, grow_steps=1, growth_batch_size=2)  # 48 batches of 97 images
    train_and_grow(
        model, digits, settings, example_inputs=(digits.train.images[:1],),
        method=ZeroOutgoing(), budget=Budget(neurons=4),
    )  # fmt: skip
    assert len(taken) == 24


def test_time_for_one_step_at_least(model: nn.Module, digits: Splits) -> None:
    assert compared(model, digits, lr=0.05, seconds=0.0).steps == 1


def test_diverging_training_is_no_number(model: nn.Module, digits: Splits) -> None:
    found = compared(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), digits, lr=1e38, seconds=1.0)
    assert math.isnan(found.loss_trained) and math.isfinite(found.loss_before)


def test_a_run_holds_every_growth_against_training(model: nn.Module, digits: Splits) -> None:
    settings = RunSettings(epochs=3, grow_steps=2, batch_size=32)
    run = train_and_grow(
        model, digits, settings, example_inputs=(digits.train.images[:1],),
        method=ZeroOutgoing(), budget=Budget(neurons=4),
    )  # fmt: skip
    assert len(run.controls) == len(run.growths) == 2
    result = run_result(run, settings, model="net", data="digits")
    for step, against in zip(result.steps, run.controls, strict=True):
        assert step.test_loss_after == against.loss_grown
        assert step.test_loss_trained == against.loss_trained
        assert step.trained_steps == against.steps >= 1
        (line,) = step_verdict(step)
        assert str(line).startswith("verdict: growth keeps the test loss at ")
        assert f"{against.steps} training step" in str(line)


STEP = StepResult(
    loss_before=1.0, loss_after=0.8, params=9, split=1, new=2, seconds=3.0, trained_steps=20,
    test_loss_before=1.1, test_loss_after=0.9, test_loss_trained=0.7,
)  # fmt: skip


def verdict(**changes: object) -> tuple[str, str]:
    (line,) = step_verdict(STEP.model_copy(update=changes))
    return str(line), " ".join(str(span.style) for span in line.spans)


def test_verdicts() -> None:
    assert verdict() == (
        "verdict: growth takes the test loss from 1.1 to 0.9 in 3 s; 20 training steps in the "
        "same time would take it to 0.7",
        "red",
    )
    assert verdict(test_loss_trained=0.95)[1] == "green"
    assert verdict(test_loss_trained=None)[0].endswith("in the same time would diverge")
    kept, style = verdict(loss_after=1.0 + 1e-7)
    assert "growth keeps the test loss at 0.9" in kept and kept.endswith("use of the new neurons")
    assert not style  # neither good nor bad
    assert not step_verdict(STEP.model_copy(update={"test_loss_before": None}))


def test_cross_entropy_is_the_loss_of_both(model: nn.Module, digits: Splits) -> None:
    images, labels = next(iter(batches(digits.test, 256)))
    with torch.no_grad():
        loss = cross_entropy(model.eval()(images), labels)
    assert evaluate(model, [(images, labels)]).loss == pytest.approx(float(loss))
