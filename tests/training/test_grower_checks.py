"""What a grower would ignore, or could never do, is said when it is made and not after an epoch."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

import fxgrow
from fxgrow import Grower
from fxgrow.errors import ArgumentError, FxgrowError, GrowthError, ModelError, SpecError
from fxgrow.training import (
    AtEpochs,
    AtSteps,
    ByPromise,
    EqualPhases,
    EveryEpochs,
    OnFullRank,
    OnPlateau,
    UntilNoGain,
    regrow_from_state,
)
from fxgrow.training.triggers import Trigger, first_epoch

LOSS = nn.functional.cross_entropy
X = torch.randn(4, 3)
BATCHES = [(X, torch.tensor([0, 1, 2, 0]))]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))


def grower(**options: Any) -> Grower:
    chosen: dict[str, Any] = {"when": EveryEpochs(epochs=9), "loss_fn": LOSS, "model": network()}
    return Grower(**{**chosen, **options})


def require(make: Callable[[], object], kind: type[FxgrowError], code: str, words: str) -> None:
    with pytest.raises(kind) as caught:
        make()
    assert caught.value.code == code
    assert words in str(caught.value)


def test_what_only_an_optimizer_would_follow() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = lr_scheduler.StepLR(optimizer, 1)
    rate = fxgrow.NewEntryRate()
    for options in ({"schedulers": (scheduler,)}, {"state": "reset"}, {"new_entry_rate": rate}):
        make = lambda options=options: grower(model=model, **options)  # noqa: E731
        require(make, ArgumentError, "unused-option", "has no optimizer")
        grower(model=model, optimizer=optimizer, **options)


@pytest.mark.parametrize("options", [{"state": "reset"}, {"new_entry_rate": fxgrow.NewEntryRate()}])
def test_grow_and_widen_say_so_too(options: dict[str, Any]) -> None:
    model = network()
    calls = (
        lambda: fxgrow.grow(model, BATCHES, LOSS, **options),
        lambda: fxgrow.widen(model, {"0": 1}, (X,), **options),
    )
    for call in calls:
        require(call, ArgumentError, "unused-option", "has no optimizer")
    assert model[0].out_features == 4


WAITING: list[tuple[Trigger, int]] = [
    (AtEpochs(epochs=(7, 5)), 5),
    (AtSteps(steps=(9,)), 1),
    (EqualPhases(), 1),
    (EveryEpochs(epochs=4), 4),
    (UntilNoGain(epochs=3), 3),
    (OnFullRank(epochs=2), 2),
    (OnPlateau(patience=6), 7),
    (ByPromise(epochs=1, window=1), 2),
    (ByPromise(epochs=3, window=3), 6),
]


@pytest.mark.parametrize(("trigger", "first"), WAITING, ids=lambda value: type(value).__name__)
def test_the_first_epoch_at_which_a_trigger_may_ask(trigger: Any, first: int) -> None:
    assert first_epoch(trigger) == first
    options = {"when": trigger, "method": fxgrow.Firefly(new=1)}
    grower(**options, epochs=max(first, 1))
    if first > 1:
        make = lambda: grower(**options, epochs=first - 1)  # noqa: E731
        require(make, FxgrowError, "bad-setting", f"no growth before epoch {first}")


def test_a_plateau_may_come_at_its_first_epoch() -> None:
    """If no loss is a number."""
    own = grower(when=OnPlateau(patience=1), grow_steps=1, accept_no_gain=True)
    assert own.step(BATCHES, loss=math.nan) is None
    assert own.step(BATCHES, loss=math.nan) is not None


def test_phases_of_a_training_of_unknown_length() -> None:
    require(lambda: grower(when=EqualPhases()), FxgrowError, "no-epochs", "give epochs=")


def test_example_inputs_are_looked_at_first() -> None:
    require(lambda: grower(example_inputs="x"), ModelError, "bad-inputs", "cannot be fed")
    make = lambda: grower(  # noqa: E731
        model=nn.Sequential(network(), nn.Linear(3, 3)), example_inputs=(X,),
        method=fxgrow.Firefly(new=1, layers=2), budget=fxgrow.Budget(neurons=1, layers=1),
    )  # fmt: skip
    require(make, GrowthError, "companion-layers", "inserts layers")


@pytest.mark.parametrize(
    "told",
    [
        {"epoch": 4},
        {"step": 49},
        {"multiply_adds": 9.0},
        {"multiply_adds": math.nan},
        {"multiply_adds": -1.0},
        {"validation_accuracy": 93.0},
        {"validation_accuracy": math.nan},
    ],
    ids=str,
)
def test_measurements_that_cannot_be(told: dict[str, Any]) -> None:
    own = grower()
    own.step(BATCHES, loss=1.0, epoch=5, step=50, multiply_adds=10.0)
    before = own.history
    with pytest.raises(ArgumentError, match=r"cannot use"):
        own.step(BATCHES, loss=1.0, **told)
    assert own.history == before
    own.step(BATCHES, loss=math.inf, epoch=5, step=50, multiply_adds=0.0, validation_accuracy=1.0)


def test_a_companion_follows_once() -> None:
    own = grower()
    companion = copy.deepcopy(own.model)
    own.follow(companion)
    other = network()
    other[0].weight = companion[0].weight
    for again in (companion, other):
        require(lambda: own.follow(again), GrowthError, "unlike-models", "would grow twice")  # noqa: B023
    own.follow(copy.deepcopy(own.model))
    assert len(own.companions) == 2


PARTS: dict[str, list[Any]] = {"widths": [], "layers": [], "blocks": []}
STATES: dict[str, Callable[[dict[str, Any]], object]] = {
    "growth after the end": lambda state: state["history"].update(growths=[2]),
    "growth before the beginning": lambda state: state["history"].update(growths=[-1]),
    "growth backwards": lambda state: state["history"].update(growths=[1, 0]),
    "epochs below none": lambda state: state["history"].update(epochs=-1),
    "endless steps": lambda state: state["history"].update(grow_steps=10**30),
    "an epoch below none": lambda state: state["history"]["measurements"][0].update(epoch=-1),
    "a step from afar": lambda state: state["history"]["measurements"][0].update(step=10**20),
    "more than it grew": lambda state: state.update(grown=[PARTS]),
}


@pytest.mark.parametrize("change", STATES.values(), ids=STATES.keys())
def test_states_that_no_grower_has_written(change: Callable[[dict[str, Any]], object]) -> None:
    own = grower()
    own.step(BATCHES, loss=1.0)
    state = own.state_dict()
    grower().load_state_dict(state)
    change(state)
    for read in (grower().load_state_dict, lambda state: regrow_from_state(network(), state, (X,))):
        require(lambda: read(state), SpecError, "bad-value", "give a state_dict()")  # noqa: B023


def test_a_state_that_is_nested_too_deep() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    state = {**grower().state_dict(), "grown": nested}
    require(lambda: grower().load_state_dict(state), SpecError, "bad-value", "plain values only")
