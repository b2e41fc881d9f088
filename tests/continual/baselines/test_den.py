import pytest
import torch
from torch import Tensor

from fxgrow.capture import capture
from fxgrow.continual.baselines.den import Den, affordable_neurons
from fxgrow.continual.baselines.short_training import ShortTraining
from fxgrow.coupling import couple
from fxgrow.errors import BudgetError
from fxgrow.growth import Budget, resolve_budget
from tests.continual.tiny import INPUTS, added, check_locked, check_master, check_seed, grown, model

DEN = Den(brief=ShortTraining(steps=8), new=3)


def test_a_master_learns_with_it_within_its_budget_and_forgets_nothing() -> None:
    check_master(DEN)


@pytest.mark.parametrize("settings", [{}, {"sigma": 9.0}, {"tau": 9.0}])
def test_what_is_locked_keeps_its_bits(settings: dict[str, float]) -> None:
    check_locked(DEN.model_copy(update=settings))


def test_a_seed_decides_all() -> None:
    check_seed(DEN)


def test_group_sparsity_drops_what_is_not_worth_its_norm() -> None:
    counts = [
        added(grown(DEN.model_copy(update={"group": by, "sigma": 9.0})))[1] for by in (0.0, 100.0)
    ]
    assert counts == [4, 0]


def test_neurons_are_added_only_if_the_loss_is_above_tau() -> None:
    below, above = (grown(DEN.model_copy(update={"tau": tau, "sigma": 9.0})) for tau in (9.0, 0.0))
    assert added(below) == (0, 0) and added(above) == (0, 4)


def test_what_moved_further_than_sigma_is_unlocked_and_keeps_what_it_learnt() -> None:
    expanded, before = (
        grown(DEN.model_copy(update={"sigma": 0.01, "tau": 9.0})),
        model().state_dict(),
    )
    assert added(expanded) == (4, 0)
    moved = (expanded.network.state_dict()["3.weight"] != before["3.weight"]).flatten(2).any(2)
    into, out_of = expanded.unlocked["3"], expanded.unlocked["0"]
    assert not moved[~into][:, ~out_of].any() and moved[into].any(1).all()
    assert added(grown(DEN.model_copy(update={"sigma": 9.0, "tau": 9.0}))) == (0, 0)


def test_a_first_task_has_nothing_to_unlock() -> None:
    assert added(grown(DEN, unlock=False)) == (0, 4)


def test_a_budget_that_buys_nothing_is_refused() -> None:
    with pytest.raises(BudgetError, match="less than one step"):
        grown(DEN, Budget(parameters=1))


def test_new_neurons_and_splits_take_turns_largest_first() -> None:
    captured = capture(model(), INPUTS)
    coupling = couple(captured)
    drift = {"0": torch.tensor([0.0, 0.3, 0.0, 0.1]), "3": torch.tensor([0.2, 0, 0, 0, 0, 0])}
    norms = {"0": torch.tensor([5.0, 0.0]), "3": torch.tensor([9.0, 7.0])}
    unlocked, kept = affordable_neurons(
        coupling, drift, norms, resolve_budget(Budget(neurons=4), captured, coupling)
    )
    assert _true(unlocked) == {"0": [1], "3": [0]} and _true(kept) == {"0": [], "3": [0, 1]}
    unlocked, kept = affordable_neurons(
        coupling, drift, norms, resolve_budget(Budget(neurons=9), captured, coupling)
    )
    assert _true(unlocked) == {"0": [1, 3], "3": [0]} and _true(kept) == {"0": [0], "3": [0, 1]}


def _true(masks: dict[str, Tensor]) -> dict[str, list[int]]:
    return {
        name: mask.nonzero().reshape(-1).tolist()
        for name, mask in masks.items()
        if name in ("0", "3")
    }
