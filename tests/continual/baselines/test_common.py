import copy
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from fxgrow.continual.baselines.base import TrunkStrategy
from fxgrow.continual.baselines.common import SharedTrunk, num_parameters, train_network
from fxgrow.continual.baselines.ewc import Ewc
from fxgrow.continual.baselines.fine_tuning import FineTuning
from fxgrow.continual.settings import TrainSettings
from fxgrow.errors import DataError, TrainingError
from fxgrow.training import endless, shuffled
from tests.continual.tiny import INPUTS, TRAIN, model, outputs, tasks

ONCE = TRAIN.model_copy(update={"epochs": 1})


def test_the_rate_falls_to_zero_step_by_step() -> None:
    data = tasks(1)[0].train
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    bias = network[1].bias
    steps, rates = [bias.item()], []

    def after_step(rate: float) -> None:
        steps.append(bias.item())
        rates.append(rate)

    plain = TrainSettings(epochs=2, batch_size=16, lr=1, momentum=0, weight_decay=0)
    train_network(
        network, data, plain, seed=0, loss=lambda output, target: bias.sum(), after_step=after_step
    )
    total = 2 * -(-len(data) // 16)
    assert rates == [plain.learning_rate(step / total) for step in range(total)]
    assert [a - b for a, b in pairwise(steps)] == pytest.approx(rates, abs=1e-5)


def test_a_last_batch_of_one_is_left_out() -> None:
    data = tasks(1)[0].train.first(17)
    assert [len(labels) for _, labels in shuffled(data, 16, torch.Generator())] == [16]
    with pytest.raises(DataError, match="no image") as caught:
        train_network(model(), data.first(1), TRAIN, seed=0)
    assert caught.value.code == "no-batches"
    with pytest.raises(DataError) as caught:
        next(endless(shuffled(data.first(1), 16, torch.Generator())))
    assert caught.value.code == "no-batches"


def test_only_the_parameters_asked_for_move() -> None:
    network, before = model(), model()
    train_network(network, tasks(1)[0].train, ONCE, seed=0, parameters=network[0].parameters())
    assert torch.equal(network[3].weight, before[3].weight)
    assert not torch.equal(network[0].weight, before[0].weight)


def test_a_loss_that_is_no_number_stops_it() -> None:
    with pytest.raises(TrainingError) as caught:
        train_network(
            model(),
            tasks(1)[0].train,
            ONCE,
            seed=0,
            loss=lambda output, target: output.sum() * float("nan"),
        )
    assert caught.value.code == "nan-loss"


def test_a_trunk_keeps_what_is_each_tasks_own() -> None:
    first, second = tasks()
    trunk = SharedTrunk.of(model(), "7", own_norms=True)
    assert trunk.paths == ("7", "1")
    assert set(trunk.shared()) == {"0.weight", "3.weight", "3.bias"}
    one = trunk.add(first, 0)
    with torch.no_grad():
        one[1].weight.add_(1)
    two = trunk.add(second, 1)
    assert torch.equal(
        two[1].weight, trunk.own[first.name]["1"].weight
    )  # it starts where the last one ended
    with torch.no_grad():
        two[1].weight.add_(1)
    nets = [trunk.network(task.name) for task in (first, second)]
    assert torch.equal(nets[0][1].weight + 1, nets[1][1].weight)
    assert trunk.model[1] is trunk.own[second.name]["1"]  # a look at a task mounts nothing
    assert trunk.parameters == num_parameters(nets[0]) + num_parameters(nets[1][7], nets[1][1])


def test_tasks_are_learnt_once_and_then_known() -> None:
    task = tasks(1)[0]
    trunk = SharedTrunk.of(model(), "7")
    with pytest.raises(DataError, match="none yet") as caught:
        trunk.network(task.name)
    assert caught.value.code == "unknown-task"
    trunk.add(task, 0)
    with pytest.raises(DataError) as caught:
        trunk.add(task, 0)
    assert caught.value.code == "known-task"


def test_parameters_that_are_held_twice_count_once() -> None:
    layer = nn.Linear(2, 3)
    assert num_parameters(layer, nn.Sequential(layer), copy.deepcopy(layer)) == 18


@pytest.mark.parametrize("kind", [FineTuning, Ewc])
def test_a_task_whose_training_failed_can_be_learned_again(kind: type[TrunkStrategy]) -> None:
    """The weights of the earlier tasks are as they were, and so is what the retry gives."""
    first, second = tasks()
    strategy, never_failed = (kind(model(), INPUTS, train=TRAIN) for _ in range(2))
    broken = replace(second, train=replace(second.train, images=second.train.images * math.nan))
    for learner in (strategy, never_failed):
        learner.learn(first)
    with pytest.raises(TrainingError, match="nan"):
        strategy.learn(broken)
    assert torch.equal(outputs(strategy, first), outputs(never_failed, first))
    strategy.learn(second)
    never_failed.learn(second)
    assert torch.equal(outputs(strategy, second), outputs(never_failed, second))
