import torch
from torch import nn

from fxgrow.continual.baselines.common import num_parameters
from fxgrow.continual.baselines.joint import Joint
from fxgrow.continual.strategy import Strategy
from tests.continual.tiny import INPUTS, TRAIN, accuracy_on, check_strategy, model, tasks


def make(given: nn.Module) -> Strategy:
    return Joint(given, INPUTS, train=TRAIN)


def test_it_is_a_strategy() -> None:
    check_strategy(make)


def test_tasks_are_good_together_and_the_head_has_rows_for_all() -> None:
    first, second = tasks()
    strategy = make(model())
    strategy.learn(first)
    one = strategy.parameters
    assert one == num_parameters(strategy.network(first.name))
    stats = strategy.learn(second)
    assert stats.details == {"images": len(first.train) + len(second.train)}
    assert strategy.parameters == one + 25 * 2
    assert min(accuracy_on(strategy, task) for task in (first, second)) > 0.8
    nets = [strategy.network(task.name) for task in (first, second)]
    assert nets[0][7].out_features == 2
    assert not torch.equal(nets[0][7].weight, nets[1][7].weight)
    assert torch.equal(nets[0][0].weight, nets[1][0].weight)
