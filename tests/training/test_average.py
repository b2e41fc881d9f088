"""The moving average of the weights: its rule, that it follows growth, and what is published."""

import copy

import pytest
import torch
from torch import nn

from fxgrow.data import Splits
from fxgrow.errors import FxgrowError, SpecError
from fxgrow.growth import Budget, Method
from fxgrow.methods import AutoGrow, Firefly, ZeroOutgoing
from fxgrow.training import (
    ByPromise,
    EpochDone,
    Event,
    GrowthDone,
    GrowthSkipped,
    MovingAverage,
    Run,
    RunSettings,
    train_and_grow,
)
from fxgrow.training.average import average_values, load_average, new_average

SETTINGS = RunSettings(
    epochs=2, grow_steps=1, batch_size=48, growth_batches=2, growth_batch_size=16,
    accept_no_gain=True, lr=0.05,
)  # fmt: skip


def run(
    model: nn.Module,
    data: Splits,
    settings: RunSettings,
    method: Method | None = None,
    events: list[Event] | None = None,
) -> Run:
    return train_and_grow(
        model,
        data,
        settings,
        example_inputs=(data.train.images[:1],),
        method=method or ZeroOutgoing(),
        budget=Budget(neurons=3),
        listeners=[(events if events is not None else []).append],
    )


def with_ema(ema: MovingAverage | None) -> RunSettings:
    return SETTINGS.model_copy(update={"ema": ema})


def require_equal(one: nn.Module, other: nn.Module) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_rule() -> None:
    """min(decay, (1 + t) / (10 + t)) of the old average; whole numbers are copied."""
    torch.manual_seed(0)
    model = nn.BatchNorm1d(3)
    model.register_buffer("positions", torch.tensor([1, 5, 9]))
    average = new_average(model, 0.3)
    expected = torch.zeros(3)
    for t in range(6):
        with torch.no_grad():
            model.weight.copy_(torch.randn(3))
            model.running_mean.copy_(model.weight)
            model.get_buffer("num_batches_tracked").add_(7)
        average.update_parameters(model)
        kept = min(0.3, (1 + t) / (10 + t)) if t else 0.0
        expected = kept * expected + (1 - kept) * model.weight.detach()
        torch.testing.assert_close(average.module.weight, expected)
        torch.testing.assert_close(average.module.running_mean, expected)
        assert average.module.positions.tolist() == [1, 5, 9]
        assert int(average.module.num_batches_tracked) == 7 * (t + 1)


def test_an_average_without_a_memory_is_the_model_through_all_growth(
    model: nn.Module, digits: Splits
) -> None:
    plain = run(model, digits, with_ema(None))
    averaged = run(model, digits, with_ema(MovingAverage(decay=0.0)))
    assert len(averaged.records) == 1
    require_equal(plain.final.module, averaged.final.module)


def test_one_that_is_not_published_is_only_evaluated(model: nn.Module, digits: Splits) -> None:
    events: list[Event] = []
    plain = run(model, digits, with_ema(None))
    kept = MovingAverage(decay=0.9, publish=False)
    averaged = run(model, digits, with_ema(kept), events=events)
    require_equal(plain.final.module, averaged.final.module)
    assert plain.after.test == averaged.after.test
    accuracies = [event.average_accuracy for event in events if isinstance(event, EpochDone)]
    assert len(accuracies) == 2 and None not in accuracies


def test_a_growth_step_tells_how_good_the_average_is(model: nn.Module, digits: Splits) -> None:
    """It keeps its function, so it is as good after the step as after the epoch before."""
    events: list[Event] = []
    # Fast enough that average and weights are far apart.
    settings = with_ema(MovingAverage(decay=0.9)).model_copy(update={"lr": 1.0})
    run(model, digits, settings, events=events)
    (grown,) = [event for event in events if isinstance(event, GrowthDone)]
    before = next(event for event in events if isinstance(event, EpochDone))
    assert grown.average_loss is not None and before.test_loss is not None
    assert grown.average_loss == pytest.approx(before.average_loss, rel=1e-5)
    assert abs(grown.average_loss - before.test_loss) > 1e-3
    assert grown.average_accuracy == before.average_accuracy
    events.clear()
    run(model, digits, with_ema(None), events=events)
    (grown,) = [event for event in events if isinstance(event, GrowthDone)]
    assert grown.average_loss is grown.average_accuracy is None


def test_what_is_published_is_what_was_evaluated(model: nn.Module, digits: Splits) -> None:
    events: list[Event] = []
    done = run(model, digits, with_ema(MovingAverage(decay=0.9)), events=events)
    plain = run(model, digits, with_ema(None))
    last = [event for event in events if isinstance(event, EpochDone)][-1]
    assert done.after.test.accuracy == last.average_accuracy
    assert done.after.test.loss == pytest.approx(last.average_loss, rel=1e-5)
    assert done.final.spec.fingerprint == plain.final.spec.fingerprint
    # Module and graph hold the same weights, and others than the model that was trained.
    images = digits.test.images[:8]
    module, graph = done.final.module.eval(), done.final.graph_module.eval()
    torch.testing.assert_close(module(images), graph(images))
    assert not torch.equal(module[0].weight, plain.final.module[0].weight)


def test_a_growth_step_that_is_only_tried_leaves_it_alone(digits: Splits) -> None:
    """ByPromise tries a growth step after every epoch, and throws it away here."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10))
    changes = {"grow_when": ByPromise(), "epochs": 4, "ema": MovingAverage(decay=0.9)}
    settings = SETTINGS.model_copy(update=changes)
    events: list[Event] = []
    done = run(model, digits, settings, Firefly(new=1, steps=1, eps=1e-9), events)
    assert any(
        "promises less" in event.reason for event in events if isinstance(event, GrowthSkipped)
    )
    ungrown = run(model, digits, settings.model_copy(update={"grow_steps": 0}), Firefly(new=1))
    assert not done.records
    require_equal(done.final.module, ungrown.final.module)


def test_it_has_no_place_for_layers(model: nn.Module, digits: Splits) -> None:
    events: list[Event] = []
    with pytest.raises(FxgrowError) as caught:
        run(model, digits, with_ema(MovingAverage()), AutoGrow(layers=1), events)
    assert caught.value.code in ("companion-layers", "empty-budget")
    assert not any(isinstance(event, EpochDone) for event in events)


def test_values_of_another_model_are_refused() -> None:
    average = new_average(nn.Linear(2, 3), 0.9)
    values = average_values(average)
    load_average(average, values)
    other = new_average(nn.Linear(2, 4), 0.9)
    before = copy.deepcopy(other.state_dict())
    for wrong in (values, {"tensors": {}, "count": 1}):
        with pytest.raises(SpecError):
            load_average(other, wrong)
    assert all(torch.equal(before[name], other.state_dict()[name]) for name in before)
