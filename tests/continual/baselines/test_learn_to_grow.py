import pytest
import torch
from torch import nn

from fxgrow.continual.baselines.common import num_parameters
from fxgrow.continual.baselines.learn_to_grow import LearnToGrow, LtgSettings
from fxgrow.continual.settings import TrainSettings
from tests.continual.tiny import INPUTS, TRAIN, accuracy_on, check_strategy, model, outputs, tasks

SHORT = TRAIN.model_copy(update={"epochs": 1})


def make(given: nn.Module, train: TrainSettings = TRAIN) -> LearnToGrow:
    return LearnToGrow(given, INPUTS, train=train, settings=LtgSettings(epochs=2, lr=0.01))


def test_it_is_a_strategy() -> None:
    check_strategy(make)


@pytest.mark.parametrize("price", [-1e3, 1e3])
def test_the_price_decides_and_earlier_tasks_stay_bit_for_bit(price: float) -> None:
    """Paid for adding, every layer is new; charged a fortune, every layer is reused."""
    stream = tasks(3)
    strategy = make(model(), SHORT)
    strategy._settings = LtgSettings.model_construct(epochs=2, lr=0.01, price=price, rank=4)
    before, sizes = [], []
    for task in stream:
        stats = strategy.learn(task)
        sizes.append(strategy.parameters)
        before.append(outputs(strategy, task))
    assert set(stats.details["choices"].values()) == {"new" if price < 0 else "reused"}
    assert stats.growing_epochs == 2
    for task, output in zip(stream, before, strict=True):
        assert torch.equal(outputs(strategy, task), output)
    net = strategy.network(stream[0].name)
    assert sizes[0] == num_parameters(net)
    layers = net[0].weight.numel() + net[3].weight.numel() if price < 0 else 0
    assert sizes[2] - sizes[1] == layers + num_parameters(net[1], net[7]) + 6


def test_adapted_layers_count_as_their_adapters_and_become_versions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = tasks()
    strategy = make(model(), SHORT)
    strategy.learn(first)
    one, before = strategy.parameters, outputs(strategy, first)
    monkeypatch.setattr("fxgrow.continual.baselines.layer_choices.LayerMixture.best", 1)
    assert set(strategy.learn(second).details["choices"].values()) == {"adapted"}
    nets = [strategy.network(task.name) for task in (first, second)]
    moved = (nets[1][3].weight - nets[0][3].weight).abs().sum((0, 1)).flatten()
    assert moved.nonzero().tolist() == [[4]]  # the middle of 3 x 3
    assert strategy.parameters == one + 4 * 1 + 6 * 4 + num_parameters(nets[1][1], nets[1][7]) + 6
    assert torch.equal(outputs(strategy, first), before)
    assert [len(versions) for versions in strategy._versions.values()] == [2, 2]


def test_a_good_search_learns_every_task() -> None:
    stream = tasks(3)
    strategy = make(model())
    assert strategy.learn(stream[0]).growing_epochs == 0
    for task in stream[1:]:
        strategy.learn(task)
    assert min(accuracy_on(strategy, task) for task in stream) > 0.8


def test_a_network_that_is_its_head_has_nothing_to_choose() -> None:
    strategy = make(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), SHORT)
    for task in tasks():
        stats = strategy.learn(task)
        assert (stats.growing_epochs, stats.details) == (0, {"choices": {}})
