"""What holds for every way in which a master network gains neurons, on tasks that are learnt in a moment."""

import copy
from itertools import islice

import torch
from torch import Tensor, nn

from fxgrow.continual import Expanded, Expansion, Master, MasterSettings, Outcome, Task, TrainSettings, deal
from fxgrow.continual.growing import Growing
from fxgrow.continual.union import Draft, Union
from fxgrow.data import batches, load_data
from fxgrow.growth import Budget, Objective
from fxgrow.training import cross_entropy
from tests.networks import randomised

SETTINGS = MasterSettings(train=TrainSettings(epochs=10, batch_size=16, lr=0.1))
INPUTS = (torch.zeros(1, 1, 8, 8),)
BUDGET = Budget(neurons=4)


def tasks(count: int = 2) -> tuple[Task, ...]:
    """Digits of 8 x 8, two classes to a task."""
    return deal(load_data("digits", channels=1, size=8, train_size=240, test_size=100), 5)[:count]


def model() -> nn.Module:
    """Two convolutions, a normalisation, and a head of the wrong size."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 2),
    )  # fmt: skip
    return randomised(net).float()


def objective(network: nn.Module) -> Objective:
    """Four growth batches of the second task."""
    return Objective.of(islice(batches(tasks()[1].train, 16), 4), cross_entropy, network)


def grown(expansion: Expansion, budget: Budget = BUDGET, *, unlock: bool = True, seed: int = 0) -> Expanded:
    """The expansion of the model; the model itself may be changed."""
    network = model()
    return expansion.expand(network, INPUTS, objective(network), budget, unlock=unlock, seed=seed)


def added(expanded: Expanded) -> tuple[int, int]:
    """How many neurons are unlocked, and how many new."""
    return sum(int(mask.sum()) for mask in expanded.unlocked.values()), sum(expanded.new.values())


def check_locked(expansion: Expansion) -> None:
    """An expansion changes nothing but private tensors and what lies on fresh neurons: merging would raise."""
    union, expanded = Union.of(model(), INPUTS), grown(expansion)
    origin, unlocked = {}, {}
    for name, mask in union.everyone.items():
        more = expanded.new.get(name, 0)
        origin[name] = torch.cat([torch.arange(len(mask)), torch.full((more,), -1)])
        copies = expanded.unlocked.get(name, torch.zeros_like(mask))
        unlocked[name] = torch.cat([copies, torch.zeros(more, dtype=torch.bool)])
    wider, _ = union.merged(Draft(expanded.network, origin, unlocked))
    assert sum(len(m) for m in wider.everyone.values()) == 10 + sum(added(expanded))


def check_master(expansion: Expansion) -> Outcome:
    """Two tasks are learnt, within the budget, and the first one's network does not change by a bit."""
    first, second = tasks()
    learner = Growing(model(), INPUTS, settings=SETTINGS, expansion=expansion, budget=BUDGET)
    learner.learn(first)
    before = said(learner.master, first)
    outcome = Outcome.model_validate(learner.learn(second).details)
    assert torch.equal(said(learner.master, first), before)
    assert outcome.accuracy > 0.8 and outcome.growing_epochs > 2
    assert 0 < sum(use.unlocked + use.new for use in outcome.widths.values()) <= 4
    assert sum(use.master for use in outcome.widths.values()) <= 10 + 4
    return outcome


def said(master: Master, task: Task) -> Tensor:
    with torch.no_grad():
        found: Tensor = master.network(task.name)(task.test.images)
    return found


def check_seed(expansion: Expansion) -> None:
    """One seed, one result; another seed, another one."""
    first, again, other = (grown(expansion, seed=seed) for seed in (0, 0, 1))
    states = [copy.deepcopy(one.network.state_dict()) for one in (first, again, other)]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert (first.new, first.loss_after) == (again.new, again.loss_after)
    assert (first.new, first.loss_after) != (other.new, other.loss_after)
