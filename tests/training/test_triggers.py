"""Each trigger on histories written by hand, with the exact epochs at which it says yes."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fxgrow.errors import ArgumentError, TrainingError
from fxgrow.training import (
    AtEpochs,
    AtSteps,
    ByPromise,
    EqualPhases,
    EveryEpochs,
    Measurement,
    OnFullRank,
    OnPlateau,
    Promise,
    RunSettings,
    Spectrum,
    TrainingHistory,
    Trigger,
    UntilNoGain,
)
from fxgrow.training.triggers import equal_phases


def epochs(losses: Sequence[float], **columns: Sequence[Any]) -> list[Measurement]:
    """One measurement per epoch of 10 steps and 100 multiply-adds, with more values by column."""
    measured = []
    for index, loss in enumerate(losses):
        values = {name: column[index] for name, column in columns.items()}
        number = index + 1
        measured.append(Measurement(number, 10 * number, loss, 100.0 * number, **values))
    return measured


def grown_at(
    trigger: Trigger, measured: Sequence[Measurement], grow_steps: int = 99, most: int = 99
) -> list[int]:
    """The epochs after which a run would grow that does what the trigger says."""
    history = TrainingHistory((), epochs=len(measured) + 1, grow_steps=grow_steps)
    grown: list[int] = []
    for measurement in measured:
        history = replace(history, measurements=(*history.measurements, measurement))
        if len(grown) < most and trigger.should_grow(history):
            grown.append(measurement.epoch)
            history = replace(history, growths=(*history.growths, len(history.measurements)))
    return grown


FLAT = epochs([1.0] * 9)


def test_equal_phases() -> None:
    assert grown_at(EqualPhases(), FLAT, grow_steps=4) == [2, 4, 6, 8]
    assert grown_at(EqualPhases(), FLAT, grow_steps=1) == [5]
    assert grown_at(EqualPhases(), FLAT, grow_steps=0) == []


@given(st.integers(1, 400), st.integers(0, 40))
def test_equal_phases_are_those_of_the_settings(count: int, grow_steps: int) -> None:
    if count > grow_steps:
        ends = equal_phases(count, grow_steps)
        phases = RunSettings(epochs=count, grow_steps=grow_steps).phases
        assert [sum(phases[: index + 1]) for index in range(grow_steps)] == list(ends)


@pytest.mark.parametrize(
    ("every", "expected"), [(1, [1, 2, 3, 4, 5, 6, 7, 8, 9]), (3, [3, 6, 9]), (9, [9]), (10, [])]
)
def test_every_epochs(every: int, expected: list[int]) -> None:
    assert grown_at(EveryEpochs(epochs=every), FLAT) == expected


def test_every_epochs_counts_from_the_last_growth() -> None:
    """A growth after epoch 2, whoever asked for it, moves the next one to epoch 5."""
    history = TrainingHistory(tuple(FLAT[:4]), growths=(2,))
    assert not EveryEpochs(epochs=3).should_grow(history)
    assert EveryEpochs(epochs=3).should_grow(replace(history, measurements=tuple(FLAT[:5])))


def test_at_epochs() -> None:
    assert grown_at(AtEpochs(epochs=(7, 1, 4, 4)), FLAT) == [1, 4, 7]


def test_at_steps_is_at_the_end_of_the_epoch() -> None:
    assert grown_at(AtSteps(steps=(1, 10, 11, 40, 85)), FLAT) == [1, 2, 4, 9]


def test_on_plateau() -> None:
    """Best at 0.5; epochs 3 to 5 are no better, so after the third of them the model grows."""
    losses = [1.0, 0.5, 0.5, 0.6, 0.5, 0.5, 0.4, 0.4, 0.4, 0.4]
    assert grown_at(OnPlateau(patience=2), epochs(losses)) == [5, 10]
    assert grown_at(OnPlateau(patience=0), epochs(losses)) == [3, 4, 5, 6, 8, 9, 10]
    assert grown_at(OnPlateau(patience=9), epochs(losses)) == []


def test_what_is_better() -> None:
    losses = [1.0, 0.95, 0.91, 0.8]
    assert grown_at(OnPlateau(patience=0, min_delta=0.1), epochs(losses)) == [2, 3]
    assert grown_at(OnPlateau(patience=0, min_delta=0.25), epochs(losses)) == [2, 3, 4]
    assert grown_at(OnPlateau(patience=0, min_delta=0.01, mode="abs"), epochs(losses)) == []
    tenth = [0.1 * loss for loss in losses]  # a share says the same of them, a difference does not
    assert grown_at(OnPlateau(patience=0, min_delta=0.1), epochs(tenth)) == [2, 3]
    assert grown_at(OnPlateau(patience=0, min_delta=0.01, mode="abs"), epochs(tenth)) == [2, 3]


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=40),
    st.integers(0, 4),
    st.sampled_from([0.0, 1e-4, 0.3]),
    st.sampled_from(["rel", "abs"]),
)
def test_on_plateau_counts_as_torch_does(
    numbers: list[int], patience: int, min_delta: float, mode: Any
) -> None:
    losses = [number / 10 for number in numbers]
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=patience, threshold=min_delta, threshold_mode=mode, eps=0.0
    )
    expected, rate = [], 1.0
    for epoch, loss in enumerate(losses, start=1):
        scheduler.step(loss)
        if optimizer.param_groups[0]["lr"] < rate:
            rate = optimizer.param_groups[0]["lr"]
            expected.append(epoch)
    trigger = OnPlateau(patience=patience, min_delta=min_delta, mode=mode)
    assert grown_at(trigger, epochs(losses)) == expected


def test_on_plateau_of_the_validation_loss() -> None:
    measured = epochs([3.0, 2.0, 1.0, 0.5], validation_loss=[1.0, 0.9, 1.1, 1.2])
    trigger = OnPlateau(patience=0, of="validation_loss")
    assert grown_at(trigger, measured) == [3, 4]
    assert trigger.needs == {"validation"} and not OnPlateau().needs
    with pytest.raises(TrainingError) as caught:
        grown_at(trigger, FLAT)
    assert caught.value.code == "no-validation"


def accuracies(*values: float) -> list[Measurement]:
    return epochs([1.0] * len(values), validation_accuracy=values)


def test_until_no_gain() -> None:
    """Grown after 2 (the first time without a condition) and 4 (0.7 > 0.5 + 0.1), not after 6."""
    measured = accuracies(0.4, 0.5, 0.6, 0.7, 0.72, 0.75, 0.99, 0.99, 0.99, 0.99)
    trigger = UntilNoGain(epochs=2, min_delta=0.1)
    assert grown_at(trigger, measured) == [2, 4]
    assert grown_at(trigger.model_copy(update={"min_delta": 0.04}), measured) == [2, 4, 6, 8]
    assert grown_at(UntilNoGain(epochs=11), measured) == []


def test_no_gain_at_all_is_none() -> None:
    assert grown_at(UntilNoGain(epochs=1, min_delta=0.0), accuracies(0.5, 0.5, 0.9)) == [1]


def ranks(*shares: float) -> list[Measurement]:
    """Ten singular values of two widths each, of which such shares are not small."""
    spectra = []
    for share in shares:
        large = round(10 * share)
        values = (5.0,) * large + (0.04,) * (10 - large)  # 0.8 % of the largest
        spectra.append((Spectrum("a", values), Spectrum("b", (1.0,) * 10)))
    return epochs([1.0] * len(shares), spectra=spectra)


def test_on_full_rank() -> None:
    """The mean of both widths: (0.8 + 1) / 2 = 0.9."""
    measured = ranks(0.5, 0.7, 0.8, 0.6, 1.0)
    assert grown_at(OnFullRank(share=0.9), measured) == [3, 5]
    assert grown_at(OnFullRank(share=0.9, epochs=3), measured) == [3]
    assert grown_at(OnFullRank(share=0.9, threshold=0.007), measured) == [1, 2, 3, 4, 5]
    assert grown_at(OnFullRank(share=0.01), FLAT) == []  # nothing was measured


def test_it_asks_for_spectra_when_it_may_grow() -> None:
    trigger = OnFullRank(epochs=3)
    asked = [trigger.asks(TrainingHistory(tuple(FLAT[:n]), growths=(1,))) for n in range(1, 6)]
    assert asked == [None, None, None, "spectra", "spectra"]


def test_rank_shares() -> None:
    assert Spectrum("a", (4.0, 2.0, 1.0, 0.0)).rank_share(0.25) == 0.5
    assert Spectrum("a", (0.0, 0.0)).rank_share(0.01) == 0
    assert Spectrum("a", ()).rank_share(0.01) == 0


def test_by_promise() -> None:
    """Training lowers the loss by 0.5, 0.2, 0.1, 0.05 per 100 multiply-adds; 50 of them promise 0.06."""
    losses = [2.0, 1.5, 1.3, 1.2, 1.15]
    measured = epochs(losses, promise=[Promise(0.06, 50.0)] * 5)
    assert grown_at(ByPromise(), measured, most=1) == [4]  # 0.12 a hundred is more than 0.1
    assert grown_at(ByPromise(window=2), measured, most=1) == [5]  # 0.15 over 4 to 3, 0.075 over 5
    assert grown_at(ByPromise(), epochs(losses)) == []  # nothing promised
    cheap = epochs(losses, promise=[Promise(0.06, 10.0)] * 5)
    assert grown_at(ByPromise(), cheap, most=1) == [2]


def test_a_rising_loss_is_beaten_by_any_promise() -> None:
    measured = epochs([1.0, 1.1], promise=[Promise(1e-9, 1e9)] * 2)
    assert grown_at(ByPromise(), measured) == [2]
    nothing = epochs([1.0, 1.1], promise=[Promise(0.0, 0.0)] * 2)
    assert grown_at(ByPromise(), nothing) == []


def test_it_asks_for_a_promise_when_it_is_due() -> None:
    """The slope is that since the last growth step, over the window."""
    trigger = ByPromise(epochs=2, window=2)
    asked = [trigger.asks(TrainingHistory(tuple(FLAT[:n]))) for n in range(1, 8)]
    assert asked == [None, None, None, "promise", None, "promise", None]
    after = [trigger.asks(TrainingHistory(tuple(FLAT[:n]), growths=(3,))) for n in range(3, 8)]
    assert after == [None, None, None, None, "promise"]


def test_answers_depend_on_the_history_alone() -> None:
    history = TrainingHistory(tuple(FLAT[:4]), epochs=9, grow_steps=2)
    for trigger in (
        EqualPhases(),
        EveryEpochs(epochs=2),
        OnPlateau(patience=1),
        AtSteps(steps=(40,)),
    ):
        assert [trigger.should_grow(history) for _ in range(3)] == [
            trigger.should_grow(history)
        ] * 3
        assert trigger.asks(history) is None and not trigger.needs


def test_a_history_without_measurements() -> None:
    empty = TrainingHistory(())
    assert (empty.now.epoch, empty.epochs_since_growth, empty.now.loss) == (0, 0, math.inf)
    for trigger in (EveryEpochs(), OnPlateau(), AtEpochs(epochs=(1,)), UntilNoGain(), ByPromise()):
        assert not trigger.should_grow(empty)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (EveryEpochs, {"epochs": 0}),
        (AtEpochs, {"epochs": ()}),
        (AtEpochs, {"epochs": (0,)}),
        (AtSteps, {"steps": (2**41,)}),
        (OnPlateau, {"patience": -1}),
        (OnPlateau, {"min_delta": 1.0}),
        (OnPlateau, {"of": "test_loss"}),
        (UntilNoGain, {"min_delta": 2.0}),
        (OnFullRank, {"share": 0.0}),
        (ByPromise, {"window": 0}),
    ],
)
def test_settings_out_of_range(kind: Any, values: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError) as caught:
        kind(**values)
    assert caught.value.code == "bad-setting"


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"grow_when": UntilNoGain()}, "no-validation"),
        ({"grow_when": OnPlateau(of="validation_loss")}, "no-validation"),
        ({"grow_when": AtEpochs(epochs=(1, 2, 3))}, "bad-setting"),
        ({"grow_when": AtEpochs(epochs=(6,))}, "bad-setting"),
        ({"grow_when": {"name": "Sometimes"}}, "bad-setting"),
        ({"validation": 1.0}, "bad-setting"),
    ],
)
def test_settings_that_do_not_fit_the_run(values: dict[str, Any], code: str) -> None:
    with pytest.raises(TrainingError) as caught:
        RunSettings(epochs=6, grow_steps=2, **values)
    assert caught.value.code == code


def test_settings_that_fit() -> None:
    assert RunSettings(grow_when=AtEpochs(epochs=(1, 5))).grow_when.name == "AtEpochs"
    assert RunSettings(grow_when=UntilNoGain(), validation=0.2).validation == 0.2
    assert RunSettings().grow_when == EqualPhases()
