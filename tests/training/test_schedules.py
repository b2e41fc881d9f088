"""Schedules follow from the share of the run alone; the default is the cosine that there was before, to the bit."""

import pytest

from fxgrow.errors import ArgumentError
from fxgrow.training import ConstantRate, CosineRate, RunSettings, StepRate, cosine_rate

EPOCHS, STEPS = 4, 20


def rates(schedule: ConstantRate | CosineRate | StepRate, final_lr: float = 0.0) -> list[float]:
    """The rate of every step, and after the last one."""
    return [schedule.rate(0.5, final_lr, step / STEPS, EPOCHS, STEPS) for step in range(STEPS + 1)]


def test_the_default_is_the_cosine_to_the_bit() -> None:
    settings = RunSettings(lr=0.3, final_lr=0.07)
    shares = [(epoch + batch / 7) / 6 for epoch in range(6) for batch in range(8)]
    for share in shares:
        assert settings.learning_rate(share, steps=42) == cosine_rate(0.3, 0.07, share)
        assert settings.learning_rate(share) == cosine_rate(0.3, 0.07, share)


def test_rates_without_a_warmup() -> None:
    assert rates(ConstantRate()) == [0.5] * 21
    assert rates(CosineRate(), final_lr=0.1)[::10] == pytest.approx([0.5, 0.3, 0.1])
    expected = [0.5] * 10 + [0.05] * 5 + [0.005] * 6
    assert rates(StepRate()) == pytest.approx(expected)
    assert rates(StepRate(milestones=(0.25,), gamma=0.5)) == [0.5] * 5 + [0.25] * 16


@pytest.mark.parametrize("kind", [ConstantRate, CosineRate, StepRate])
def test_a_warmup_in_steps_is_one_in_epochs_and_leads_to_the_schedule(
    kind: type[ConstantRate | CosineRate | StepRate],
) -> None:
    found = rates(kind(warmup_steps=5))
    assert found == rates(kind(warmup=1.0))
    assert found[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    # What comes after it is the whole schedule on the rest of the run.
    rest = [kind().rate(0.5, 0.0, step / 15, 3, 15) for step in range(16)]
    assert found[5:] == pytest.approx(rest)


def test_a_warmup_may_end_within_an_epoch() -> None:
    assert rates(ConstantRate(warmup=0.4))[:4] == pytest.approx([0.25, 0.5, 0.5, 0.5])


def test_a_warmup_has_one_length() -> None:
    with pytest.raises(ArgumentError, match="so many epochs or so many steps") as caught:
        CosineRate(warmup=1.0, warmup_steps=3)
    assert caught.value.code == "bad-setting"
