"""Tasks and a network that learn in a moment."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from fxgrow.continual.learner import Learner
from fxgrow.continual.settings import TrainSettings
from fxgrow.continual.task import Task, deal
from fxgrow.data import load_data
from fxgrow.training import accuracy
from tests.networks import randomised

TRAIN = TrainSettings(epochs=8, batch_size=16, lr=0.1)
INPUTS = (torch.zeros(1, 1, 8, 8),)


@cache
def tasks(count: int = 2, images: int = 240) -> tuple[Task, ...]:
    """Digits of 8 x 8, dealt out to tasks of two classes or more."""
    return deal(load_data("digits", channels=1, size=8, train_size=images, test_size=100), 5)[:count]


def model(seed: int = 0) -> nn.Module:
    """A convolution, a normalisation, a strided convolution, and a head of the wrong size."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3),
    )  # fmt: skip
    return randomised(net, seed).float().train()


def outputs(learner: Learner, task: Task) -> Tensor:
    with torch.no_grad():
        found: Tensor = learner.network(task.name)(task.test.images)
    return found


def accuracy_on(learner: Learner, task: Task) -> float:
    return accuracy(learner.network(task.name), [(task.test.images, task.test.labels)])


def check_learner(make: Callable[[nn.Module], Learner]) -> None:
    """What holds for all: the model stays as it is, a seed decides all, tasks have their own classes, it learns."""
    first, second = tasks()
    given = model()
    before = {name: tensor.clone() for name, tensor in given.state_dict().items()}
    learners = [make(given) for _ in range(3)]
    for learner, seed in zip(learners, (0, 0, 1), strict=True):
        for task in (first, second):
            assert learner.learn(task, seed=seed).task == task.name
    same, again, other = (outputs(learner, second) for learner in learners)
    assert torch.equal(same, again) and not torch.allclose(same, other)
    assert same.shape == (len(second.test), 2)
    assert all(not module.training for module in learners[0].network(first.name).modules())
    assert accuracy_on(learners[0], second) > 0.8
    assert given.training and all(torch.equal(tensor, before[name]) for name, tensor in given.state_dict().items())
