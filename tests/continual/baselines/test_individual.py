import torch
from torch import nn

from fxgrow.continual.baselines.common import num_parameters
from fxgrow.continual.baselines.individual import Individual
from fxgrow.continual.strategy import Strategy
from tests.continual.tiny import INPUTS, TRAIN, accuracy_on, check_learner, model, outputs, tasks


def make(given: nn.Module) -> Strategy:
    return Individual(given, INPUTS, train=TRAIN)


def test_it_is_a_learner() -> None:
    check_learner(make)


def test_networks_add_up_and_stay_as_they_are() -> None:
    first, second = tasks()
    learner = make(model())
    learner.learn(first)
    before, one = outputs(learner, first), learner.parameters
    assert one == num_parameters(learner.network(first.name))
    learner.learn(second)
    assert torch.equal(outputs(learner, first), before)
    assert learner.parameters == 2 * one
    assert min(accuracy_on(learner, task) for task in (first, second)) > 0.8
