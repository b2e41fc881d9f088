"""Budgets, and what they come to for one model."""

import pytest

from fxgrow.capture import capture
from fxgrow.coupling import couple
from fxgrow.errors import BudgetError
from fxgrow.growth import Budget, ResolvedBudget, resolve_budget
from tests.networks import images, network


def resolved(**limits: float) -> ResolvedBudget:
    captured = capture(network("chain"), (images(),))
    return resolve_budget(Budget.model_validate(limits), captured, couple(captured))


def limits(found: ResolvedBudget) -> dict[str, float]:
    return {limit.unit: limit.limit for limit in found.limits}


def test_counts_and_fractions() -> None:
    assert resolved(neurons=3).sizes == {0: 4, 1: 4, 2: 5}
    assert limits(resolved(neurons=3)) == {"neurons": 3}
    assert limits(resolved(neurons=0.3)) == {"neurons": 4}
    assert limits(resolved(neurons=1.0)) == {"neurons": 13}
    stem, norms, body, dense, head = 4 * 3 * 9, 2 * 4 + 4, 4 * 4 * 9 + 4, 36 * 5 + 5, 5 * 2 + 2
    assert limits(resolved(parameters=0.5)) == {
        "parameters": (stem + norms + body + dense + head) / 2
    }


@pytest.mark.parametrize("amount", [0, -1, 0.0, float("nan"), float("inf")])
@pytest.mark.parametrize(
    "unit", ["neurons", "parameters", "multiply_adds", "activation_memory", "latency"]
)
def test_nothing_to_buy(unit: str, amount: float) -> None:
    with pytest.raises(BudgetError, match="buys nothing"):
        Budget.model_validate({unit: amount})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "a budget without a limit; give one of neurons, parameters"),
        ({"round_to": 8}, "without a limit"),
        ({"neurons": 1, "per_width": 0}, "0 per_width buys nothing"),
        ({"neurons": 1, "round_to": 0}, "round_to=0 cannot be met; give 1 to "),
        ({"neurons": 1, "layers": -1}, "layers=-1 cannot be met; give 0 to "),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], sentence: str) -> None:
    with pytest.raises(BudgetError, match=sentence):
        Budget.model_validate(settings)


def test_only_what_was_said_is_recorded() -> None:
    assert Budget(neurons=0.3).model_dump(exclude_defaults=True) == {"neurons": 0.3}
    said = {"parameters": 0.2, "latency": 500, "round_to": 8}
    assert Budget.model_validate(said).model_dump(exclude_defaults=True) == said


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"neurons": 0.01},
            "0.01 of the 13 neurons are less than one step of growth costs; the cheapest, 1 more in",
        ),
        ({"parameters": 8}, "8 parameters are less than one .* 1 more in width '7', costs 39"),
        (
            {"neurons": 2, "round_to": 8},
            "2 neurons are less than one .* 3 more in width '7', costs 3",
        ),
        (
            {"neurons": 9, "per_width": 0.5, "round_to": 8},
            "per_width=0.5 leaves no width room for round_to=8",
        ),
    ],
)
def test_less_than_one_step(settings: dict[str, float], sentence: str) -> None:
    with pytest.raises(BudgetError, match=sentence):
        resolved(**settings)


def test_steps_end_at_multiples() -> None:
    found = resolved(neurons=100, round_to=3)
    assert {n: list(found.step_sizes((n,), 8)) for n in found.sizes} == {
        0: [2, 3, 3],
        1: [2, 3, 3],
        2: [1, 3, 3],
    }
    assert list(found.step_sizes((2,), 6)) == [1, 3]
    assert list(found.step_sizes((0,), 1)) == []


def test_room_of_every_width() -> None:
    assert resolved(neurons=100, per_width=2).max_new == {0: 2, 1: 2, 2: 2}
    assert resolved(neurons=100, per_width=0.5).max_new == {0: 2, 1: 2, 2: 2}
    assert list(resolved(neurons=100, per_width=6, round_to=3).step_sizes((0,), 100)) == [2, 3]


def test_the_cap_that_binds_sets_the_price() -> None:
    """Width 0 writes 27 weights, 2 of the batch norm and is read by 36: 65 parameters."""
    assert resolved(parameters=650, neurons=1000).relative_cost({0: 1}) == pytest.approx(0.1)
    assert resolved(parameters=650, neurons=5).relative_cost({0: 1}) == pytest.approx(0.2)
    assert resolved(parameters=650, neurons=5).allows({0: 5})
    assert not resolved(parameters=650, neurons=5).allows({0: 6})
    assert not resolved(parameters=300, neurons=5).allows({0: 5})
