from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fxgrow
from fxgrow.errors import TrainingError
from fxgrow.training import AdamWSettings, ConstantRate, CosineRate, RunSettings, StepRate


@pytest.mark.parametrize(
    ("epochs", "grow_steps", "phases"),
    [(6, 2, (2, 2, 2)), (7, 2, (2, 3, 2)), (3, 2, (1, 1, 1)), (5, 0, (5,)), (5, 1, (2, 3))],
)
def test_phases(epochs: int, grow_steps: int, phases: tuple[int, ...]) -> None:
    assert RunSettings(epochs=epochs, grow_steps=grow_steps).phases == phases


@given(st.integers(1, 400), st.integers(0, 40))
def test_phases_are_equal_to_one_epoch(epochs: int, grow_steps: int) -> None:
    if epochs > grow_steps:
        phases = RunSettings(epochs=epochs, grow_steps=grow_steps).phases
        assert sum(phases) == epochs
        assert len(phases) == grow_steps + 1
        assert max(phases) - min(phases) <= 1
        assert min(phases) >= 1


def test_the_learning_rate_falls_along_half_a_cosine() -> None:
    settings = RunSettings(lr=0.4, final_lr=0.2)
    assert [settings.learning_rate(part) for part in (0, 0.5, 1)] == pytest.approx([0.4, 0.3, 0.2])
    constant = RunSettings(lr=0.1, final_lr=0.1)
    assert constant.learning_rate(0.7) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("epochs", "grow_steps", "code"),
    [(0, 0, "no-epochs"), (-1, 0, "no-epochs"), (2, 2, "too-few-epochs")],
)
def test_runs_that_cannot_be_made(epochs: int, grow_steps: int, code: str) -> None:
    with pytest.raises(TrainingError) as caught:
        RunSettings(epochs=epochs, grow_steps=grow_steps)
    assert caught.value.code == code


@pytest.mark.parametrize("lr", [0.0, -1.0, float("nan"), float("inf")])
def test_a_learning_rate_is_a_positive_number(lr: float) -> None:
    with pytest.raises(TrainingError, match=r"lr=.*correct it") as caught:
        RunSettings(lr=lr)
    assert caught.value.code == "bad-setting"


def test_the_rule_for_the_optimizer_is_a_setting() -> None:
    settings = RunSettings.model_validate(
        {"state": "reset-grown", "new_entry_rate": {"half_life": 9}}
    )
    assert settings.new_entry_rate == fxgrow.NewEntryRate(half_life=9)
    with pytest.raises(TrainingError, match="own-age") as caught:
        RunSettings(state="old-age")
    assert caught.value.code == "bad-setting"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"optimizer": AdamWSettings(), "momentum": 0.8}, "momentum=0.8 has no effect on adamw"),
        (
            {"schedule": StepRate(), "final_lr": 0.1},
            "final_lr=0.1 has no effect on the schedule step",
        ),
        ({"schedule": ConstantRate(), "final_lr": 0.1}, "no effect on the schedule constant"),
        ({"schedule": CosineRate(warmup=6)}, "a warm-up of 6 epochs leaves nothing of a run of 6"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"clip": 0.0}, "clip=0.0"),
    ],
)
def test_what_would_be_ignored_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TrainingError, match=sentence) as caught:
        RunSettings(**values)
    assert caught.value.code == "bad-setting"
