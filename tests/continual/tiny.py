"""Tasks and a network that learn in a moment, and what holds for every strategy and for every way to gain neurons."""

import copy
from collections.abc import Callable
from functools import cache
from itertools import islice

import torch
from torch import Tensor, nn

from fxgrow.continual import (
    ExpandedNetwork,
    Expansion,
    MasterSettings,
    Task,
    TaskOutcome,
    TrainSettings,
    split_classes,
)
from fxgrow.continual.master_strategy import MasterStrategy
from fxgrow.continual.shared_network import NEW_NEURON, SharedNetwork, TaskNetwork
from fxgrow.continual.strategy import Strategy
from fxgrow.data import batches, load_data
from fxgrow.growth import Budget, Objective
from fxgrow.training import accuracy, cross_entropy
from tests.networks import randomised

TRAIN = TrainSettings(epochs=10, batch_size=16, lr=0.1)
SETTINGS = MasterSettings(train=TRAIN)
INPUTS = (torch.zeros(1, 1, 8, 8),)
BUDGET = Budget(neurons=4)


@cache
def tasks(count: int = 2, images: int = 240) -> tuple[Task, ...]:
    """Digits of 8 x 8, dealt out to tasks of two classes or more."""
    return split_classes(
        load_data("digits", channels=1, size=8, train_size=images, test_size=100), 5
    )[:count]


def model(seed: int = 0) -> nn.Module:
    """A convolution, a normalisation, a strided convolution, and a head of the wrong size."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3),
    )  # fmt: skip
    return randomised(net, seed).float().train()


def outputs(strategy: Strategy, task: Task) -> Tensor:
    with torch.no_grad():
        found: Tensor = strategy.network(task.name)(task.test.images)
    return found


def accuracy_on(strategy: Strategy, task: Task) -> float:
    return accuracy(strategy.network(task.name), [(task.test.images, task.test.labels)])


def check_strategy(make: Callable[[nn.Module], Strategy]) -> None:
    """What holds for all: the model stays as it is, a seed decides all, tasks have their own classes, it learns."""
    first, second = tasks()
    given = model()
    before = {name: tensor.clone() for name, tensor in given.state_dict().items()}
    strategies = [make(given) for _ in range(3)]
    for strategy, seed in zip(strategies, (0, 0, 1), strict=True):
        for task in (first, second):
            assert strategy.learn(task, seed=seed).task == task.name
    same, again, other = (outputs(strategy, second) for strategy in strategies)
    assert torch.equal(same, again) and not torch.allclose(same, other)
    assert same.shape == (len(second.test), 2)
    assert all(not module.training for module in strategies[0].network(first.name).modules())
    assert accuracy_on(strategies[0], second) > 0.8
    assert given.training and all(
        torch.equal(tensor, before[name]) for name, tensor in given.state_dict().items()
    )


def objective(network: nn.Module) -> Objective:
    """Four growth batches of the second task; their labels are below the model's three classes."""
    return Objective.of(islice(batches(tasks()[1].train, 16), 4), cross_entropy, network)


def grown(
    expansion: Expansion, budget: Budget = BUDGET, *, unlock: bool = True, seed: int = 0
) -> ExpandedNetwork:
    """The expansion of the model; the model itself may be changed."""
    network = model()
    return expansion.expand(network, INPUTS, objective(network), budget, unlock=unlock, seed=seed)


def added(expanded: ExpandedNetwork) -> tuple[int, int]:
    """How many neurons are unlocked, and how many new."""
    return sum(int(mask.sum()) for mask in expanded.unlocked.values()), sum(expanded.new.values())


def drafted(expanded: ExpandedNetwork, union: SharedNetwork) -> TaskNetwork:
    """The expanded network as the draft of a task that leaves none of the union's neurons out."""
    origin, unlocked = {}, {}
    for name, mask in union.full_masks.items():
        more = expanded.new.get(name, 0)
        origin[name] = torch.cat([torch.arange(len(mask)), torch.full((more,), NEW_NEURON)])
        copies = expanded.unlocked.get(name, torch.zeros_like(mask))
        unlocked[name] = torch.cat([copies, torch.zeros(more, dtype=torch.bool)])
    return TaskNetwork(expanded.network, origin, unlocked)


def check_locked(expansion: Expansion) -> None:
    """An expansion changes nothing but private tensors and what lies on new neurons: merging would raise."""
    union, expanded = SharedNetwork.of(model(), INPUTS), grown(expansion)
    wider, _ = union.merged(drafted(expanded, union))
    assert sum(len(m) for m in wider.full_masks.values()) == 10 + sum(added(expanded))


def check_master(expansion: Expansion) -> TaskOutcome:
    """Two tasks are stats, within the budget, and the first one's network does not change by a bit."""
    first, second = tasks()
    strategy = MasterStrategy(
        model(), INPUTS, settings=SETTINGS, expansion=expansion, budget=BUDGET
    )
    strategy.learn(first)
    before = outputs(strategy, first)
    outcome = TaskOutcome.model_validate(strategy.learn(second).details)
    assert torch.equal(outputs(strategy, first), before)
    assert outcome.accuracy > 0.8 and outcome.growing_epochs > 2
    assert 0 < sum(use.unlocked + use.new for use in outcome.widths.values()) <= 4
    assert sum(use.master for use in outcome.widths.values()) <= 10 + 4
    return outcome


def check_seed(expansion: Expansion) -> None:
    """One seed, one result; another seed, another one."""
    first, again, other = (grown(expansion, seed=seed) for seed in (0, 0, 1))
    states = [copy.deepcopy(one.network.state_dict()) for one in (first, again, other)]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert (first.new, first.loss_after) == (again.new, again.loss_after)
    assert (first.new, first.loss_after) != (other.new, other.loss_after)
