import torch
from torch import nn

from fxgrow.continual.baselines.common import num_parameters
from fxgrow.continual.baselines.individual import Individual
from fxgrow.continual.strategy import Strategy
from tests.continual.tiny import INPUTS, TRAIN, accuracy_on, check_strategy, model, outputs, tasks


def make(given: nn.Module) -> Strategy:
    return Individual(given, INPUTS, train=TRAIN)


def test_it_is_a_strategy() -> None:
    check_strategy(make)


def test_networks_add_up_and_stay_as_they_are() -> None:
    first, second = tasks()
    strategy = make(model())
    strategy.learn(first)
    before, one = outputs(strategy, first), strategy.parameters
    assert one == num_parameters(strategy.network(first.name))
    strategy.learn(second)
    assert torch.equal(outputs(strategy, first), before)
    assert strategy.parameters == 2 * one
    assert min(accuracy_on(strategy, task) for task in (first, second)) > 0.8
