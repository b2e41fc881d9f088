import torch
from torch import nn

from fxgrow.continual.baselines.common import num_parameters
from fxgrow.continual.baselines.fine_tuning import FineTuning
from fxgrow.continual.strategy import Strategy
from tests.continual.tiny import INPUTS, TRAIN, check_learner, model, outputs, tasks


def make(given: nn.Module) -> Strategy:
    return FineTuning(given, INPUTS, train=TRAIN)


def test_it_is_a_learner() -> None:
    check_learner(make)


def test_only_heads_are_added_and_the_rest_moves_on() -> None:
    first, second = tasks()
    learner = make(model())
    learner.learn(first)
    before, one = outputs(learner, first), learner.parameters
    assert one == num_parameters(learner.network(first.name))
    learner.learn(second)
    assert learner.parameters == one + 25 * 2
    assert not torch.allclose(outputs(learner, first), before)  # it forgets
    nets = [learner.network(task.name) for task in (first, second)]
    assert torch.equal(nets[0][0].weight, nets[1][0].weight)
    assert torch.equal(nets[0][1].running_mean, nets[1][1].running_mean)
    assert not torch.equal(nets[0][7].weight, nets[1][7].weight)
