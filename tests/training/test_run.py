import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxgrow import NewEntryRate
from fxgrow.data import Splits
from fxgrow.errors import GrowthError, TrainingError
from fxgrow.growth import Budget, Method, Objective
from fxgrow.methods import AutoGrow, Firefly, ZeroOutgoing
from fxgrow.rewrite import OverGrown
from fxgrow.training import (
    AdamWSettings,
    AtEpochs,
    AtSteps,
    BatchDone,
    ByPromise,
    ConstantRate,
    CosineRate,
    EpochDone,
    EqualPhases,
    Event,
    EveryEpochs,
    GrowthDone,
    GrowthPhase,
    GrowthSkipped,
    OnFullRank,
    OnPlateau,
    Run,
    RunEnded,
    RunSettings,
    RunStarted,
    RunStopped,
    Trigger,
    UntilNoGain,
    run_result,
    train_and_grow,
)
from fxgrow.training.events import GrowthStarted
from fxgrow.training.network import capture_network

# What is found on 16 images need not help on 16 others; that is not what these tests are about.
SETTINGS = RunSettings(
    epochs=3,
    grow_steps=2,
    batch_size=32,
    growth_batches=2,
    growth_batch_size=16,
    accept_no_gain=True,
)
METHOD = Firefly(new=1, steps=2)


class NeverGains(Firefly):
    """Switches off what it selected."""

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        for eps in (grown.candidates.split_eps, grown.candidates.new_eps):
            eps.data.zero_()


def run(
    model: nn.Module, data: Splits, settings: RunSettings = SETTINGS, method: Method = METHOD
) -> tuple[Run, list[Event]]:
    events: list[Event] = []
    done = train_and_grow(
        model,
        data,
        settings,
        example_inputs=(data.train.images[:1],),
        method=method,
        budget=Budget(neurons=3),
        listeners=[events.append],
    )
    return done, events


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def kinds(events: list[Event]) -> list[type[Event]]:
    return [type(event) for event in events if not isinstance(event, BatchDone | GrowthPhase)]


def test_phases_of_training_with_growth_between_them(model: nn.Module, digits: Splits) -> None:
    before = state(model)
    done, events = run(model, digits)
    assert kinds(events) == [
        RunStarted, EpochDone, GrowthStarted, GrowthDone, EpochDone, GrowthStarted, GrowthDone, EpochDone, RunEnded,
    ]  # fmt: skip
    assert [(e.epoch, e.batch) for e in events if isinstance(e, BatchDone)] == [
        (epoch, batch) for epoch in (1, 2, 3) for batch in (1, 2, 3)
    ]
    assert same(state(model), before)
    assert [len(growth.report.widths) > 0 for growth in done.growths] == [True, True]
    sizes = [
        sum(w.size for w in spec.widths if w.growable)
        for spec in (done.initial.spec, done.final.spec)
    ]
    assert sizes[1] == sizes[0] + 6
    assert len(done.epoch_seconds) == 3
    assert [e.optimizer_step for e in events if isinstance(e, EpochDone)] == [3, 6, 9]
    assert [e.optimizer_step for e in events if isinstance(e, GrowthDone)] == [3, 6]


def test_a_growth_step_tells_its_phases_and_their_steps(model: nn.Module, digits: Splits) -> None:
    done, events = run(model, digits)
    first = [e for e in events if isinstance(e, GrowthPhase) and e.step == 1]
    names = list(dict.fromkeys(e.name for e in first))
    assert names == [
        "capture", "couple", "describe", "prepare", "budget", "statistics", "overgrow", "search",
        "refine", "backtrack", "emit", "check", "compare with training",
    ]  # fmt: skip
    # All that takes time is one of them.
    assert set(done.growths[0].report.timings) == set(names[:-1])
    assert [(e.done, e.total) for e in first if e.name == "search"] == [(0, 0), (1, 2), (2, 2)]
    assert [e.done for e in first if e.name == "refine"][-1] == METHOD.refine_steps


def test_a_run_that_fails_says_so_to_whoever_listens(model: nn.Module, digits: Splits) -> None:
    events: list[Event] = []

    def fail(event: Event) -> None:
        if isinstance(event, EpochDone):
            raise KeyboardInterrupt

    settings = RunSettings(epochs=2, grow_steps=0)
    with pytest.raises(KeyboardInterrupt):
        train_and_grow(
            model,
            digits,
            settings,
            example_inputs=(digits.train.images[:1],),
            method=METHOD,
            budget=Budget(neurons=1),
            listeners=[events.append, fail],
        )
    assert isinstance(events[-1], RunStopped) and events[-1].reason == "KeyboardInterrupt"
    assert not any(isinstance(event, RunEnded) for event in events)


def test_a_growth_step_that_gains_nothing_is_left_out(model: nn.Module, digits: Splits) -> None:
    settings = SETTINGS.model_copy(update={"accept_no_gain": False})
    done, events = run(model, digits, settings, NeverGains(new=1, steps=2))
    assert kinds(events) == [
        RunStarted, EpochDone, GrowthStarted, GrowthSkipped, EpochDone, GrowthStarted, GrowthSkipped,
        EpochDone, RunEnded,
    ]  # fmt: skip
    assert all("gained nothing" in e.reason for e in events if isinstance(e, GrowthSkipped))
    assert done.growths == () and len(done.epoch_seconds) == 3
    assert done.before is done.after
    # Exactly what training without growth steps gives.
    plain, _ = run(model, digits, RunSettings(epochs=3, grow_steps=0, batch_size=32))
    assert same(state(done.final.module), state(plain.final.module))


def test_the_final_graph_shares_the_trained_weights(model: nn.Module, digits: Splits) -> None:
    done, _ = run(model, digits)
    assert type(done.final.module) is type(model)
    images = digits.test.images[:8]
    assert torch.equal(done.final.module.eval()(images), done.final.graph_module.eval()(images))
    assert not torch.equal(done.final.module(images), done.growths[0].module.eval()(images))
    assert torch.equal(done.initial.graph_module.eval()(images), model.eval()(images))


def test_the_history_names_every_parent(model: nn.Module, digits: Splits) -> None:
    done, _ = run(model, digits)
    first, second = done.final.spec.history
    assert first.parent == done.initial.spec.fingerprint
    assert second.parent == done.growths[0].spec.fingerprint
    assert done.final.spec.fingerprint == done.growths[1].spec.fingerprint
    assert done.before.parameters == first.cost_before.parameters
    assert done.after.parameters == second.cost_after.parameters


def test_the_same_settings_give_the_same_weights_whatever_the_global_generator(
    model: nn.Module, digits: Splits
) -> None:
    first, _ = run(model, digits)
    torch.manual_seed(123)
    drawn = torch.get_rng_state()
    second, _ = run(model, digits)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert same(state(first.final.module), state(second.final.module))
    third, _ = run(model, digits, SETTINGS.model_copy(update={"seed": 1}))
    assert not same(state(first.final.module), state(third.final.module))


def test_the_learning_rate_falls_over_the_whole_run(model: nn.Module, digits: Splits) -> None:
    _, events = run(model, digits)
    rates = [event.lr for event in events if isinstance(event, EpochDone)]
    assert rates == pytest.approx([SETTINGS.lr * 0.75, SETTINGS.lr * 0.25, 0])


def test_growth_does_not_disturb_the_schedule(model: nn.Module, digits: Splits) -> None:
    """Of every step: the rate that the settings give for its place in the whole run."""
    schedule = CosineRate(warmup_steps=5)
    settings = SETTINGS.model_copy(update={"optimizer": AdamWSettings(), "schedule": schedule})
    done, events = run(model, digits, settings, ZeroOutgoing())
    assert len(done.growths) == 2
    rates = [event.lr for event in events if isinstance(event, EpochDone)]
    # Three batches of 32 images an epoch: after one of them step 4 of the warm-up follows.
    expected = [SETTINGS.lr * 0.8, settings.learning_rate(2 / 3, steps=9), 0.0]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": AdamWSettings()},
        {"schedule": ConstantRate()},
        {"label_smoothing": 0.2},
        {"clip": 0.1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_each_setting_of_training_is_used(
    model: nn.Module, digits: Splits, changes: dict[str, object]
) -> None:
    settings = RunSettings(epochs=1, grow_steps=0)
    plain, _ = run(model, digits, settings)
    changed, _ = run(model, digits, settings.model_copy(update=changes))
    assert not same(state(plain.final.module), state(changed.final.module))


def test_a_growth_step_lowers_the_loss_that_is_trained(model: nn.Module, digits: Splits) -> None:
    """Its loss is smoothed, and the evaluations around it are not."""
    settings = SETTINGS.model_copy(update={"label_smoothing": 0.5, "grow_steps": 1, "lr": 1e-9})
    done, _ = run(model, digits, settings, ZeroOutgoing())
    (record,) = done.records
    plain, _ = run(
        model, digits, settings.model_copy(update={"label_smoothing": 0.0}), ZeroOutgoing()
    )
    assert record.result.loss_before != pytest.approx(plain.records[0].result.loss_before, rel=1e-3)
    assert done.before.test.loss == pytest.approx(plain.before.test.loss, rel=1e-5)


def test_plain_training_grows_nothing(model: nn.Module, digits: Splits) -> None:
    done, _ = run(model, digits, RunSettings(epochs=1, grow_steps=0))
    assert done.growths == ()
    assert done.before is done.after
    assert done.final.spec == done.initial.spec


def test_training_goes_wrong(model: nn.Module, digits: Splits) -> None:
    before = state(model)
    with pytest.raises(TrainingError) as caught:
        run(model, digits, SETTINGS.model_copy(update={"lr": 1e9}))
    assert caught.value.code == "nan-loss"
    assert same(state(model), before)


def test_nothing_can_grow(digits: Splits) -> None:
    with pytest.raises(GrowthError) as caught:
        run(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), digits)
    assert caught.value.code == "nothing-growable"


def test_a_copied_network_keeps_model_and_graph_together(model: nn.Module, digits: Splits) -> None:
    made = copy.deepcopy(capture_network(model, (digits.train.images[:1],)))
    mine = dict(made.module.named_parameters())
    assert all(mine[name] is tensor for name, tensor in made.graph_module.named_parameters())
    assert mine.keys() == dict(model.named_parameters()).keys()


@pytest.mark.parametrize("changes", [{"state": "reset"}, {"new_entry_rate": NewEntryRate()}])
def test_the_settings_say_what_becomes_of_the_optimizer(
    model: nn.Module, digits: Splits, changes: dict[str, object]
) -> None:
    runs = [run(model, digits, SETTINGS.model_copy(update=update))[0] for update in ({}, changes)]
    assert not same(*(state(done.final.module) for done in runs))


def grown_epochs(
    model: nn.Module, data: Splits, method: Method = METHOD, **changes: Any
) -> tuple[tuple[int, ...], Run, list[Event]]:
    settings = SETTINGS.model_copy(update={"epochs": 6, "grow_steps": 5} | changes)
    done, events = run(model, data, settings, method)
    return done.growth_epochs, done, events


def test_the_default_is_equal_phases(model: nn.Module, digits: Splits) -> None:
    first, _ = run(model, digits, method=ZeroOutgoing())
    named = SETTINGS.model_copy(update={"grow_when": EqualPhases()})
    second, _ = run(model, digits, named, ZeroOutgoing())
    assert same(state(first.final.module), state(second.final.module))
    assert first.growth_epochs == second.growth_epochs == (1, 2)
    result = run_result(first, SETTINGS, model="net", data="digits")
    assert [step.epoch for step in result.steps] == [1, 2]


def test_the_trigger_says_when(model: nn.Module, digits: Splits) -> None:
    trigger = AtEpochs(epochs=(2, 3))
    epochs, done, events = grown_epochs(model, digits, ZeroOutgoing(), grow_when=trigger)
    assert epochs == (2, 3)
    phases = [event.phase for event in events if isinstance(event, EpochDone)]
    assert phases == [0, 0, 1, 2, 2, 2]
    assert len(done.growths) == len(done.controls) == 2
    # Three batches of 32 images an epoch, so step 7 is in the third.
    assert grown_epochs(model, digits, ZeroOutgoing(), grow_when=AtSteps(steps=(7,)))[0] == (3,)


def test_no_more_growth_steps_than_there_may_be(model: nn.Module, digits: Splits) -> None:
    """Nor one after the last epoch, when nothing would train what is new."""
    every = EveryEpochs(epochs=1)
    zero = ZeroOutgoing()
    assert grown_epochs(model, digits, zero, grow_when=every, grow_steps=2)[0] == (1, 2)
    assert grown_epochs(model, digits, zero, grow_when=every, epochs=3, grow_steps=2)[0] == (1, 2)


def test_growth_on_a_plateau(model: nn.Module, digits: Splits) -> None:
    """Of the losses that the run tells: none is lower by a half than the first."""
    trigger = OnPlateau(patience=1, min_delta=0.9)
    epochs, _, events = grown_epochs(model, digits, ZeroOutgoing(), grow_when=trigger)
    losses = [event.loss for event in events if isinstance(event, EpochDone)]
    assert min(losses) > 0.1 * losses[0]
    assert epochs == (3, 5)


def test_images_that_are_set_aside_are_not_trained_on(model: nn.Module, digits: Splits) -> None:
    trigger = OnPlateau(patience=0, min_delta=0.9, of="validation_loss")
    epochs, _, events = grown_epochs(
        model, digits, ZeroOutgoing(), grow_when=trigger, validation=0.5, epochs=4, grow_steps=3
    )
    assert epochs == (2, 3)
    batches = [event.batch for event in events if isinstance(event, BatchDone)]
    assert batches == [1, 2] * 4  # 49 images of 97


def test_autogrow_stops_when_accuracy_does(model: nn.Module, digits: Splits) -> None:
    """With a gain that no growth can have it stops after the first, else it goes on."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
    )
    needed = {"validation": 0.3, "lr": 0.003}
    stops = UntilNoGain(epochs=1, min_delta=1.0)
    epochs, done, _ = grown_epochs(model, digits, AutoGrow(layers=2), grow_when=stops, **needed)
    assert epochs == (1,)
    assert [len(growth.report.layers) for growth in done.growths] == [1]
    goes_on = UntilNoGain(epochs=1, min_delta=0.0)
    epochs, _, _ = grown_epochs(model, digits, AutoGrow(layers=2), grow_when=goes_on, **needed)
    assert len(epochs) > 1


def test_growth_when_the_rank_is_near_full(model: nn.Module, digits: Splits) -> None:
    low, full = OnFullRank(share=0.01, epochs=2), OnFullRank(share=1.0, threshold=0.9)
    zero = ZeroOutgoing()
    assert grown_epochs(model, digits, zero, grow_when=low)[0] == (2, 4)
    assert grown_epochs(model, digits, zero, grow_when=full)[0] == ()


def test_growth_by_promise(model: nn.Module, digits: Splits) -> None:
    """At a rate of nothing training delivers nothing, so any promise is kept; else none is."""
    options: dict[str, Any] = {"grow_when": ByPromise(), "epochs": 4, "grow_steps": 3}
    idle, done, events = grown_epochs(model, digits, **options, lr=1e-12, weight_decay=0.0)
    assert (
        idle and len(done.growths) == len(idle) and done.before.parameters < done.after.parameters
    )
    assert not any(
        isinstance(event, GrowthSkipped) for event in events[: events.index(first_growth(events))]
    )
    epochs, done, events = grown_epochs(model, digits, **options, lr=0.1)
    skipped = [event for event in events if isinstance(event, GrowthSkipped)]
    assert epochs == () and done.growths == ()
    assert [(event.step, event.epoch) for event in skipped] == [(1, 2), (1, 3)]
    assert all("promises less" in event.reason for event in skipped)
    # What was tried leaves no trace.
    plain, _ = run(
        model, digits, SETTINGS.model_copy(update={"epochs": 4, "grow_steps": 0, "lr": 0.1})
    )
    assert same(state(done.final.module), state(plain.final.module))


def first_growth(events: list[Event]) -> Event:
    return next(event for event in events if isinstance(event, GrowthDone))


def test_a_promise_needs_scores_that_are_gains(model: nn.Module, digits: Splits) -> None:
    with pytest.raises(TrainingError) as caught:
        grown_epochs(model, digits, ZeroOutgoing(), grow_when=ByPromise())
    assert caught.value.code == "no-promise"


@pytest.mark.parametrize("trigger", [OnFullRank(share=0.5), OnPlateau(patience=0, min_delta=0.5)])
def test_triggered_runs_are_reproducible(
    model: nn.Module, digits: Splits, trigger: Trigger
) -> None:
    states = []
    for noise in (0, 123):
        torch.manual_seed(noise)
        epochs, done, _ = grown_epochs(
            model, digits, ZeroOutgoing(), grow_when=trigger, epochs=4, grow_steps=2
        )
        states.append((epochs, state(done.final.module)))
    assert states[0][0] == states[1][0] != ()
    assert same(states[0][1], states[1][1])
