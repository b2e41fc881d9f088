import pytest
import torch
from torch import nn

from fxgrow.continual.baselines.common import num_parameters
from fxgrow.continual.baselines.ewc import Ewc, EwcPenalty, EwcSettings, fisher_information
from fxgrow.continual.strategy import Strategy
from fxgrow.data import DataSet
from tests.continual.tiny import INPUTS, TRAIN, check_strategy, model, outputs, tasks


def make(given: nn.Module, strength: float = 1.0) -> Strategy:
    return Ewc(given, INPUTS, train=TRAIN, settings=EwcSettings(strength=strength, images=30))


def test_it_is_a_strategy() -> None:
    check_strategy(make)


def test_the_fisher_information_of_logistic_regression_is_known() -> None:
    """p(1 - p) x^2 per weight, whichever class is drawn in the mean: two classes, one with scores 0."""
    layer = nn.Sequential(nn.Flatten(), nn.Linear(1, 2)).double()
    with torch.no_grad():
        layer[1].weight.copy_(torch.tensor([[0.0], [0.8]]))
        layer[1].bias.zero_()
    images = torch.full((4000, 1, 1, 1), 1.5, dtype=torch.float64)
    data = DataSet(images, torch.zeros(4000, dtype=torch.long))
    found = fisher_information(
        layer, dict(layer.named_parameters()), data, torch.Generator().manual_seed(0)
    )["1.weight"]
    p = torch.sigmoid(torch.tensor(1.2, dtype=torch.float64))
    assert found.flatten().tolist() == pytest.approx([float(p * (1 - p)) * 1.5**2] * 2, rel=0.05)


def test_an_implicit_step_minimises_the_penalty_and_the_distance() -> None:
    penalty = EwcPenalty().with_task({"w": torch.tensor(3.0)}, {"w": torch.tensor(1.0)})
    penalty = penalty.with_task({"w": torch.tensor(0.5)}, {"w": torch.tensor(-2.0)})
    start, found, rate = torch.tensor(4.0), nn.Parameter(torch.tensor(4.0)), 0.7
    penalty.hold({"w": found}, rate)
    loss = 3 / 2 * (found - 1) ** 2 + 0.5 / 2 * (found + 2) ** 2 + (found - start) ** 2 / (2 * rate)
    loss.backward()
    assert found.grad is not None and abs(float(found.grad)) < 1e-5


def test_the_stronger_the_less_is_forgotten_and_every_task_is_held() -> None:
    stream = tasks(3)
    moved = []
    for strength in (0.0, 400.0):
        strategy = make(model(), strength)
        strategy.learn(stream[0])
        before = outputs(strategy, stream[0]).softmax(1)
        strategy.learn(stream[1])
        strategy.learn(stream[2])
        moved.append(float((outputs(strategy, stream[0]).softmax(1) - before).square().mean()))
    assert moved[1] < 0.5 * moved[0]


def test_heads_and_normalisations_are_each_tasks_own() -> None:
    first, second = tasks()
    strategy = make(model())
    strategy.learn(first)
    norm, one = strategy.network(first.name)[1].state_dict(), strategy.parameters
    assert one == num_parameters(strategy.network(first.name))
    strategy.learn(second)
    after = strategy.network(first.name)[1].state_dict()
    assert all(torch.equal(tensor, norm[name]) for name, tensor in after.items())
    assert strategy.parameters == one + 25 * 2 + 4 * 2
