from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from fxgrow.capture import capture
from fxgrow.continual.baselines.controller import OptionIndices
from fxgrow.continual.baselines.rcl import Rcl, Trials, accuracy_on_batches, split_batches
from fxgrow.continual.baselines.short_training import ShortTraining
from fxgrow.coupling import couple
from fxgrow.errors import BudgetError, DataError
from fxgrow.growth import Budget, Objective, resolve_budget
from fxgrow.growth.budget import Limit
from fxgrow.growth.cost_models import Counts
from fxgrow.training import accuracy, cross_entropy, seeded
from tests.continual.tiny import (
    INPUTS,
    added,
    check_locked,
    check_master,
    check_seed,
    grown,
    model,
    objective,
)

RCL = Rcl(brief=ShortTraining(steps=4), trials=4, hidden=8, options=(1, 2), alpha=1e-3)


def trials(budget: Budget, settings: Rcl = RCL) -> Trials:
    network = model().eval()
    captured = capture(network, INPUTS)
    coupling = couple(captured)
    train, judges = split_batches(objective(network))
    return Trials(
        settings,
        network,
        coupling,
        INPUTS,
        train,
        judges,
        "7",
        resolve_budget(budget, captured, coupling),
        0,
    )


def mean_rewards(reward: Callable[[OptionIndices], float]) -> tuple[float, float]:
    """Of the first and of the last twenty of a hundred trials."""
    settings = Rcl(trials=100, hidden=16, layers=1, options=(0, 1, 2, 4))
    with seeded(0):
        rewards = settings.search(2, lambda _: [True] * 4, reward)
    return sum(rewards[:20]) / 20, sum(rewards[-20:]) / 20


def test_a_master_learns_with_it_within_its_budget_and_forgets_nothing() -> None:
    outcome = check_master(RCL)
    assert all(use.unlocked == 0 for use in outcome.widths.values())


def test_what_is_locked_keeps_its_bits() -> None:
    check_locked(RCL)


def test_a_seed_decides_all() -> None:
    check_seed(RCL)


def test_the_controller_learns_what_is_rewarded() -> None:
    early, late = mean_rewards(
        lambda choices: 0.5 + 0.25 * (choices[0] == 2) + 0.25 * (choices[1] == 1)
    )
    assert late > early + 0.15


def test_the_second_choice_can_depend_on_the_first() -> None:
    early, late = mean_rewards(lambda choices: float(choices[1] == 4 - choices[0]))
    assert late > early + 0.3


def test_only_what_the_budget_pays_for_is_allowed() -> None:
    found = trials(Budget(neurons=5), Rcl(options=(0, 1, 2, 4, 8)))
    assert found.allowed(()) == [True, True, True, True, False]
    assert found.allowed((4,)) == [True, True, False, False, False]
    rounded = trials(Budget(neurons=8, round_to=4), Rcl(options=(0, 1, 2, 4, 8)))
    assert rounded.allowed(()) == [True, False, False, True, True]
    assert rounded.allowed((4,)) == [True, False, True, False, False]
    assert trials(Budget(neurons=5, per_width=1)).allowed(()) == [True, False]


def test_a_reward_is_accuracy_less_what_each_neuron_costs_and_the_best_child_is_kept() -> None:
    found = trials(Budget(neurons=4), RCL.model_copy(update={"alpha": 1.0}))
    rewards = {choices: found.reward(choices) for choices in ((2, 2), (1, 1), (1, 2), (2, 2))}
    child = found.kept[0]
    assert rewards[1, 1] == child.reward and child.counts == dict.fromkeys(found.widths, 1)
    right = accuracy(
        child.network, [(inputs[0], target) for inputs, target in found.judges.batches]
    )
    assert child.reward == pytest.approx(right - 2)
    assert found.child({}).reward > 0 > max(rewards.values())


class Underestimate:
    """A cost model whose estimate is below what it measures."""

    current = 0.0

    def estimate(self, _: Counts) -> float:
        return 0

    def measure(self, _: Counts) -> float:
        return 2


def test_a_child_that_turns_out_too_dear_gets_nothing() -> None:
    found = trials(Budget(neurons=4))
    assert found.child({0: 1}).counts == {0: 1}
    found.resolved = replace(found.resolved, limits=(Limit("latency", 1, Underestimate()),))
    assert found.child({0: 1}).counts == {}


def test_no_child_is_trained_twice_and_judging_counts_as_seen() -> None:
    seen = 0

    def counted(output: object, target: torch.Tensor) -> torch.Tensor:
        nonlocal seen
        seen += len(target)
        return cross_entropy(output, target)

    found = trials(Budget(neurons=4))
    found.train, found.judges = split_batches(Objective(objective(found.parent).batches, counted))
    found.reward((1, 1))
    once = seen
    found.reward((1, 1))
    judging = sum(len(target) for _, target in found.judges.batches)
    assert once == seen == judging + sum(len(found.train.batches[step % 2][1]) for step in range(4))
    accuracy_on_batches(found.parent, found.judges)
    assert seen == once + judging


def test_one_batch_cannot_train_and_judge() -> None:
    whole = objective(model())
    with pytest.raises(DataError, match="growth_batches"):
        split_batches(Objective(whole.batches[:1], whole.loss_fn))
    train, judges = split_batches(whole)
    assert len(train.batches) == 2 and len(judges.batches) == 1
    assert all(
        a is b
        for a, b in zip(
            [*train.batches, *judges.batches], (whole.batches[i] for i in (0, 2, 1)), strict=True
        )
    )


def test_a_budget_that_buys_nothing_is_refused() -> None:
    with pytest.raises(BudgetError, match="less than one step"):
        grown(RCL, Budget(parameters=1))


def test_nothing_is_unlocked() -> None:
    assert added(grown(RCL))[0] == 0
