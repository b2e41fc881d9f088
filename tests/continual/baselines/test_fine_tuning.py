import torch
from torch import nn

from fxgrow.continual.baselines.common import num_parameters
from fxgrow.continual.baselines.fine_tuning import FineTuning
from fxgrow.continual.strategy import Strategy
from tests.continual.tiny import INPUTS, TRAIN, check_strategy, model, outputs, tasks


def make(given: nn.Module) -> Strategy:
    return FineTuning(given, INPUTS, train=TRAIN)


def test_it_is_a_strategy() -> None:
    check_strategy(make)


def test_only_heads_are_added_and_the_rest_moves_on() -> None:
    first, second = tasks()
    strategy = make(model())
    strategy.learn(first)
    before, one = outputs(strategy, first), strategy.parameters
    assert one == num_parameters(strategy.network(first.name))
    strategy.learn(second)
    assert strategy.parameters == one + 25 * 2
    assert not torch.allclose(outputs(strategy, first), before)  # it forgets
    nets = [strategy.network(task.name) for task in (first, second)]
    assert torch.equal(nets[0][0].weight, nets[1][0].weight)
    assert torch.equal(nets[0][1].running_mean, nets[1][1].running_mean)
    assert not torch.equal(nets[0][7].weight, nets[1][7].weight)
