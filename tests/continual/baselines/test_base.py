"""What all baselines get from their base class: copies, tasks that are learned once, the time."""

import pytest
import torch
from torch import Tensor, nn

from fxgrow.continual.baselines.base import BaselineStrategy, TrunkStrategy
from fxgrow.continual.strategy import TaskStats
from fxgrow.continual.task import Task
from fxgrow.errors import DataError, GrowthError
from tests.continual.tiny import INPUTS, model, tasks


class Untrained(BaselineStrategy[nn.Module]):
    """Keeps the network that it starts from, with the head that was drawn."""

    @property
    def parameters(self) -> int:
        return 0

    def _learn(self, task: Task, seed: int) -> TaskStats:
        self._tasks[task.name] = self._with_new_head(task.classes, seed)
        return TaskStats(task.name, 2.5, details={"seed": seed})

    def _task_network(self, task: str) -> nn.Module:
        return self._tasks[task]


class UntrainedTrunk(TrunkStrategy):
    """Adds every task to its trunk and leaves it at that."""

    own_norms = True

    def _learn(self, task: Task, seed: int) -> TaskStats:
        self._trunk.add(task, seed)
        return TaskStats(task.name)


def head(strategy: BaselineStrategy[nn.Module], task: Task) -> Tensor:
    return strategy.network(task.name)[7].weight


def test_the_time_is_filled_in_and_the_rest_is_kept() -> None:
    stats = Untrained(model(), INPUTS).learn(tasks(1)[0], seed=3)
    assert (stats.task, stats.growing_epochs, stats.details) == ("1", 2.5, {"seed": 3})
    assert stats.seconds > 0 and stats.cpu_seconds >= 0


@pytest.mark.parametrize("kind", [Untrained, UntrainedTrunk])
def test_a_task_is_learned_once_and_then_known(kind: type[Untrained]) -> None:
    strategy, (first, second) = kind(model(), INPUTS), tasks()
    with pytest.raises(DataError, match="none yet") as caught:
        strategy.network(first.name)
    assert caught.value.code == "unknown-task"
    strategy.learn(first)
    with pytest.raises(DataError) as caught:
        strategy.learn(first)
    assert caught.value.code == "known-task"
    with pytest.raises(DataError, match=r"\(1\)"):
        strategy.network(second.name)


def test_the_seed_decides_the_head_and_the_given_model_stays() -> None:
    given, (first, second) = model(), tasks()
    before = given[7].weight.detach().clone()
    heads = []
    for seed in (0, 0, 1):
        strategy = Untrained(given, INPUTS)
        strategy.learn(first, seed=seed)
        strategy.learn(second, seed=seed)
        heads.append(head(strategy, first))
        assert head(strategy, first) is not head(strategy, second)
        assert strategy.network(first.name)[0].weight is not given[0].weight
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    assert torch.equal(given[7].weight, before) and heads[0].shape == (2, 24)


def test_the_head_is_found_or_named() -> None:
    assert Untrained(model(), INPUTS)._head == "7"
    assert Untrained(model(), INPUTS, head="3")._head == "3"
    with pytest.raises(GrowthError) as caught:
        Untrained(nn.Sequential(nn.Flatten()), INPUTS)
    assert caught.value.code == "no-head"


def test_a_trunk_counts_what_each_task_has_to_itself() -> None:
    strategy, (first, second) = UntrainedTrunk(model(), INPUTS), tasks()
    strategy.learn(first)
    one = strategy.parameters
    strategy.learn(second)
    assert strategy.parameters - one == 25 * 2 + 2 * 4  # a head and a batch norm
