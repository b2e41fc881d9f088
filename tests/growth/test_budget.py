"""Budgets and the choice within them."""

import pytest
import torch

from fxgrow.coupling import couple
from fxgrow.errors import BudgetError
from fxgrow.growth import Budget, Scores, select
from tests.networks import images, network


def test_counts_and_fractions() -> None:
    coupling = couple(network("chain"), (images(),))
    assert [(w.name, w.size) for w in coupling.widths if w.growable] == [("0", 4), ("4", 4), ("7", 5)]
    assert Budget(neurons=3).count(coupling) == 3
    assert Budget(neurons=0.3).count(coupling) == 4
    assert Budget(neurons=1.0).count(coupling) == 13


@pytest.mark.parametrize("neurons", [0, -1, 0.0, float("nan"), float("inf")])
def test_nothing_to_buy(neurons: float) -> None:
    with pytest.raises(BudgetError, match="buys nothing"):
        Budget(neurons=neurons)


def test_less_than_one_neuron() -> None:
    with pytest.raises(BudgetError, match="less than one"):
        Budget(neurons=0.01).count(couple(network("chain"), (images(),)))


def test_best_of_all_kinds_first_among_equals() -> None:
    selection = select(Scores(torch.tensor([0.5, 0.1, 0.5]), torch.tensor([0.7, 0.5])), 3)
    assert selection.split.tolist() == [True, False, True]
    assert selection.new.tolist() == [True, False]


def test_scores_must_be_numbers() -> None:
    with pytest.raises(BudgetError, match="not a number"):
        select(Scores(torch.tensor([float("nan")]), torch.empty(0)), 1)
