import torch
from torch import nn

from fxgrow.continual.learner import Learner
from fxgrow.continual.rivals.common import count
from fxgrow.continual.rivals.individual import Individual
from tests.continual.tiny import INPUTS, TRAIN, accuracy_on, check_learner, model, outputs, tasks


def make(given: nn.Module) -> Learner:
    return Individual(given, INPUTS, train=TRAIN)


def test_it_is_a_learner() -> None:
    check_learner(make)


def test_networks_add_up_and_stay_as_they_are() -> None:
    first, second = tasks()
    learner = make(model())
    learner.learn(first)
    before, one = outputs(learner, first), learner.parameters
    assert one == count(learner.network(first.name))
    learner.learn(second)
    assert torch.equal(outputs(learner, first), before)
    assert learner.parameters == 2 * one
    assert min(accuracy_on(learner, task) for task in (first, second)) > 0.8
