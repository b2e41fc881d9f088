"""The choice within a budget."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, Coupling, RandomGrowth
from fxgrow.capture import Captured, capture
from fxgrow.coupling import couple
from fxgrow.errors import BudgetError
from fxgrow.growth import ResolvedBudget, Scores, Selection, resolve_budget, select
from fxgrow.growth.budget import UNLIMITED, Limit
from fxgrow.rewrite import Candidates
from tests.networks import NETWORKS, images, network

Prices = Mapping[int, float]


@dataclass(frozen=True)
class Linear:
    """Every neuron of a width at its price; ``truth`` times that on the grown model."""

    prices: Prices
    truth: float = 1.0
    present: float = 100.0

    def estimate(self, counts: Mapping[int, int]) -> float:
        return sum(self.prices[width] * count for width, count in counts.items())

    def measure(self, counts: Mapping[int, int]) -> float:
        return self.truth * self.estimate(counts)


def resolved(
    limit: float, *prices: float, sizes: Sequence[int] = (), truth: float = 1.0, **rest: Any
) -> ResolvedBudget:
    numbers = range(len(prices))
    sizes = sizes or [1] * len(prices)
    most = Limit("parameters", limit, Linear(dict(zip(numbers, prices, strict=True)), truth))
    return ResolvedBudget(
        (most,),
        dict.fromkeys(numbers, rest.pop("max_new", UNLIMITED)),
        dict(zip(numbers, sizes, strict=True)),
        **rest,
    )


def chosen(
    found: ResolvedBudget, split: Sequence[Sequence[float]], new: Sequence[Sequence[float]] = ()
) -> Selection:
    """The selection for the scores of each width."""
    slices = [{n: len(one) for n, one in enumerate(scores) if one} for scores in (split, new)]
    candidates = Candidates(slices[0], slices[1], torch.empty(0, dtype=torch.float64))
    flat = [
        torch.tensor([x for one in scores for x in one], dtype=torch.float64)
        for scores in (split, new)
    ]
    return select(Scores(*flat), candidates, found)


def test_best_of_all_kinds_first_among_equals() -> None:
    found = chosen(resolved(3, 1, 1), [[0.5, 0.1, 0.5]], [[], [0.7, 0.5]])
    assert found.split.tolist() == [True, False, True]
    assert found.new.tolist() == [True, False]
    assert found.spent == {"parameters": 3}


def test_scores_must_be_numbers() -> None:
    for score in (float("nan"), float("inf")):
        with pytest.raises(BudgetError, match="not a number"):
            chosen(resolved(1, 1), [[score]])


def test_a_budget_is_spent() -> None:
    """On the least harm, and of equal harm on the cheaper."""
    assert chosen(resolved(3, 1), [[-0.5, 0.1, -0.1, -0.2]]).split.tolist() == [
        False,
        True,
        True,
        True,
    ]
    assert chosen(resolved(5, 5, 2), [[-1.0], [-1.0]]).split.tolist() == [False, True]


def test_score_per_unit_of_cost() -> None:
    assert chosen(resolved(6, 6, 2, 3), [[1.0], [0.5], [0.6]]).split.tolist() == [False, True, True]
    assert chosen(resolved(6, 6, 2, 3), [[1.6], [0.5], [0.6]]).split.tolist() == [
        True,
        False,
        False,
    ]


def two_widths() -> tuple[Captured, Coupling]:
    """A neuron of ``conv`` is dear in multiply-adds, one of ``hidden`` in parameters.

    On images of 8 x 8, one more neuron costs

        conv    64 x 9 + 64 x 1 = 640 multiply-adds    9 + 1 + 1 = 11 parameters
        hidden     64 + 2       =  66 multiply-adds   64 + 1 + 2 = 67 parameters
    """
    layers = {
        "conv": nn.Conv2d(1, 2, 3, padding=1), "relu": nn.ReLU(), "mix": nn.Conv2d(2, 1, 1),
        "flat": nn.Flatten(), "hidden": nn.Linear(64, 3), "tanh": nn.Tanh(), "out": nn.Linear(3, 2),
    }  # fmt: skip
    captured = capture(nn.Sequential(OrderedDict(layers)), torch.randn(1, 1, 8, 8))
    return captured, couple(captured)


@pytest.mark.parametrize(
    ("budget", "conv", "hidden"),
    [
        # 1 / 640 is less than 0.2 / 66, so all goes to hidden: a gain of 2 instead of 1.
        (Budget(multiply_adds=660), 0, 10),
        # 0.2 / 66 comes first while there are candidates, then there is room for one of conv.
        (Budget(multiply_adds=1300), 1, 10),
        # 1 / 11 is more than 0.2 / 67.
        (Budget(parameters=67), 6, 0),
        # Of neurons the best ones, whatever they cost.
        (Budget(neurons=10), 8, 2),
        # Both limits: 640 of 700 is the larger share of a conv neuron, 67 of 600 that of a hidden
        # one, so 1 / (640 / 700) = 1.09 is less than 0.2 / (67 / 600) = 1.79.
        (Budget(multiply_adds=700, parameters=600), 0, 8),
        # 11 of 67 and 67 of 67 are the larger shares: 1 / (11 / 67) = 6.1 is more than 0.2.
        (Budget(multiply_adds=10_000, parameters=67), 6, 0),
    ],
)
def test_gain_per_multiply_add_allocates_between_widths(
    budget: Budget, conv: int, hidden: int
) -> None:
    captured, coupling = two_widths()
    numbers = [coupling.widths.index(coupling.by_name[name]) for name in ("conv", "hidden")]
    counts = dict(zip(numbers, (8, 10), strict=True))
    candidates = Candidates({}, counts, torch.empty(0, dtype=torch.float64))
    scores = Scores(torch.empty(0), torch.tensor([1.0] * 8 + [0.2] * 10))
    found = select(scores, candidates, resolve_budget(budget, captured, coupling))
    assert (int(found.new[:8].sum()), int(found.new[8:].sum())) == (conv, hidden)
    costs = {
        "multiply_adds": 640 * conv + 66 * hidden,
        "parameters": 11 * conv + 67 * hidden,
        "neurons": conv + hidden,
    }
    assert found.spent == {unit: costs[unit] for unit in budget.amounts}


def test_what_does_not_fit_leaves_room_for_what_does() -> None:
    """Width 1 is the better bargain per neuron once, then its next neuron is too much; width 0 fills the rest."""
    found = chosen(resolved(8, 1, 5), [[0.3, 0.2, 0.1, 0.1], [9.0, 8.0]])
    assert found.split.tolist() == [True, True, True, False, True, False]


SMALL = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=3), min_size=1, max_size=3)


@settings(deadline=None, max_examples=60)
@given(scores=SMALL, price=st.integers(1, 4), limit=st.integers(1, 20), data=st.data())
def test_greedy_against_every_subset(
    scores: list[list[int]], price: int, limit: int, data: Any
) -> None:
    """At one price the greedy choice is the best there is; else it is short of it by less than one candidate."""
    prices = [data.draw(st.sampled_from([price, 2 * price])) for _ in scores]
    costs = [p for p, one in zip(prices, scores, strict=True) for _ in one]
    gains = [score for one in scores for score in one]
    bags = [
        sum(g for g, taken in zip(gains, bag, strict=True) if taken)
        for bag in product([False, True], repeat=len(gains))
        if sum(c for c, taken in zip(costs, bag, strict=True) if taken) <= limit
    ]
    if max(bags) == 0:
        with pytest.raises(BudgetError, match="no candidate fits"):
            chosen(resolved(limit, *prices), scores)
        return
    found = chosen(resolved(limit, *prices), scores)
    gained = sum(g for g, taken in zip(gains, found.split.tolist(), strict=True) if taken)
    assert found.spent["parameters"] <= limit
    assert gained == max(bags) if len(set(prices)) == 1 else gained > max(bags) - max(gains)


def test_widths_end_at_multiples_or_stay() -> None:
    """5 -> 8 takes three, 8 -> 12 four; the best single one, of a width with no fourth candidate, is left."""
    found = resolved(7, 1, 1, 1, sizes=(5, 8, 8), round_to=4)
    result = chosen(found, [[0.1] * 5, [0.2, 0.3, 0.2, 0.2, 0.1], [9.0, 9.0, 9.0]])
    assert result.split.tolist() == [True] * 3 + [False] * 2 + [True] * 4 + [False] * 4
    tight = chosen(
        resolved(6, 1, 1, 1, sizes=(5, 8, 8), round_to=4), [[0.1] * 5, [0.2] * 5, [9.0] * 3]
    )
    assert tight.split.tolist() == [False] * 5 + [True] * 4 + [False] * 4


@settings(deadline=None, max_examples=40)
@given(
    scores=st.lists(
        st.lists(st.sampled_from([-0.3, 0.0, 0.1, 0.1, 0.7]), min_size=1, max_size=9),
        min_size=1,
        max_size=4,
    ),
    round_to=st.integers(1, 4),
    limit=st.integers(1, 30),
    max_new=st.integers(1, 9),
    data=st.data(),
)
def test_rounding_and_room_hold(
    scores: list[list[float]], round_to: int, limit: int, max_new: int, data: Any
) -> None:
    sizes = [data.draw(st.integers(1, 9)) for _ in scores]
    prices = [data.draw(st.sampled_from([0.5, 1.0, 3.0])) for _ in scores]
    try:
        found = chosen(
            resolved(limit, *prices, sizes=sizes, round_to=round_to, max_new=max_new), scores
        )
    except BudgetError:
        return
    places = found.split.split([len(one) for one in scores])
    added = [int(mask.sum()) for mask in places]
    assert all(not k or (size + k) % round_to == 0 for k, size in zip(added, sizes, strict=True))
    assert max(added) <= max_new
    assert (
        sum(k * price for k, price in zip(added, prices, strict=True))
        == found.spent["parameters"]
        <= limit
    )
    for one, mask in zip(scores, places, strict=True):
        taken = [score for score, yes in zip(one, mask.tolist(), strict=True) if yes]
        assert sorted(one, reverse=True)[: len(taken)] == sorted(taken, reverse=True)


def test_what_turns_out_to_cost_more_is_put_back() -> None:
    found = chosen(resolved(10, 1, truth=2.5), [[float(score) for score in range(12)]])
    assert found.split.tolist() == [False] * 8 + [True] * 4
    assert found.spent == {"parameters": 10}
    with pytest.raises(BudgetError, match="no candidate fits"):
        chosen(resolved(10, 1, truth=11), [[1.0, 2.0]])


@pytest.mark.filterwarnings("ignore:the candidates ran out:UserWarning")  # few, to be fast
@settings(deadline=None, max_examples=8)
@given(
    name=st.sampled_from(sorted(NETWORKS)),
    unit=st.sampled_from(["parameters", "multiply_adds"]),
    share=st.floats(0.1, 0.9),
    round_to=st.sampled_from([1, 2]),
    seed=st.integers(0, 9),
)
def test_the_emitted_model_is_within_the_cap(
    name: str, unit: str, share: float, round_to: int, seed: int
) -> None:
    batch = (images(4, seed), torch.tensor([0, 1, 1, 0]))
    budget = Budget.model_validate({unit: share, "round_to": round_to})
    method = RandomGrowth(new=3)
    try:
        growth = fxgrow.grow(
            network(name),
            [batch],
            F.cross_entropy,
            example_inputs=(images(),),
            method=method,
            budget=budget,
            seed=seed,
            accept_no_gain=True,  # random directions need not find any
        )
    except BudgetError:
        return
    (step,) = growth.spec.history
    before, after = (getattr(cost, unit) for cost in (step.cost_before, step.cost_after))
    assert 0 < after - before <= share * before
    assert growth.report.plan.spending[unit].spent == after - before
    assert all(change.after % round_to == 0 for change in step.widths)
