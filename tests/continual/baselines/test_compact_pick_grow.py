import torch
from torch import Tensor, nn

from fxgrow.continual.baselines.common import num_parameters
from fxgrow.continual.baselines.compact_pick_grow import CompactPickGrow, CpgSettings
from fxgrow.continual.settings import TrainSettings
from tests.continual.tiny import INPUTS, TRAIN, accuracy_on, check_strategy, model, outputs, tasks

OFTEN = CpgSettings(target=0.8, sparsities=(0.3, 0.6), mask_lr=5e-3)
ALWAYS = CpgSettings(target=1.0, factor=1.5, growths=1, sparsities=(0.5,), mask_lr=5e-3)
SHORT = TRAIN.model_copy(update={"epochs": 1, "lr": 0.02})


class Joined(nn.Module):
    """Two convolutions whose channels are concatenated: those of the first grow in the middle of what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.both = nn.Conv2d(1, 3, 3), nn.Conv2d(1, 3, 3), nn.Conv2d(6, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([torch.relu(self.one(x)), torch.relu(self.two(x))], 1)
        return self.head(torch.relu(self.both(x)).mean((2, 3)))


def make(
    given: nn.Module, settings: CpgSettings = OFTEN, train: TrainSettings = TRAIN
) -> CompactPickGrow:
    return CompactPickGrow(given, INPUTS, train=train, settings=settings)


def test_it_is_a_strategy() -> None:
    check_strategy(make)


def test_earlier_tasks_stay_bit_for_bit_while_the_network_grows() -> None:
    stream = tasks(3)
    strategy = make(model(), ALWAYS, SHORT)
    before = []
    for task in stream:
        stats = strategy.learn(task)
        assert stats.details["growths"] == 1
        assert stats.growing_epochs == SHORT.epochs + 1
        before.append(outputs(strategy, task))
    assert [strategy.network(task.name)[0].out_channels for task in stream] == [6, 9, 14]
    for task, output in zip(stream, before, strict=True):
        assert torch.equal(outputs(strategy, task), output)


def test_growth_in_the_middle_of_an_axis_moves_what_earlier_tasks_use() -> None:
    first, second = tasks()
    strategy = make(Joined(), ALWAYS, SHORT)
    strategy.learn(first)
    before = outputs(strategy, first)
    strategy.learn(second)
    assert (
        strategy.network(second.name).both.in_channels
        > strategy.network(first.name).both.in_channels
    )
    assert torch.equal(outputs(strategy, first), before)


def test_later_tasks_use_what_earlier_ones_left_and_own_the_rest() -> None:
    first, second = tasks()
    strategy = make(model(), CpgSettings(target=0.0, sparsities=(0.5,), mask_lr=5e-3), SHORT)
    assert strategy.learn(first).details["sparsity"] == 0.5
    one = strategy.network(first.name)
    assert int((one[3].weight == 0).sum()) == one[3].weight.numel() / 2
    assert (
        strategy.parameters
        == num_parameters(one) - (one[0].weight.numel() + one[3].weight.numel()) / 2
    )
    strategy.learn(second)
    two = strategy.network(second.name)
    assert ((one[3].weight != 0) & (two[3].weight == 0)).any()  # not picked
    both = (one[3].weight != 0) & (two[3].weight != 0)
    assert torch.equal(two[3].weight[both], one[3].weight[both]) and both.any()
    new = (one[3].weight == 0) & (two[3].weight != 0)
    assert int(new.sum()) == one[3].weight.numel() / 4
    own = sum(num_parameters(net[1], net[7]) + 6 for net in (one, two))
    assert strategy.parameters == own + (one[0].weight.numel() + one[3].weight.numel()) * 3 / 4


def test_pruning_ends_before_accuracy_suffers() -> None:
    first = tasks()[0]
    strategy = make(model(), CpgSettings(target=0.9, growths=0, sparsities=(0.2, 1.0)))
    stats = strategy.learn(first)
    assert stats.details["sparsity"] == 0.2
    assert stats.growing_epochs == 2  # that of what was tried in vain is counted
    assert accuracy_on(strategy, first) > 0.8


def test_a_network_that_cannot_grow_is_learnt_as_it_is() -> None:
    given = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    stats = make(given, ALWAYS, SHORT).learn(tasks()[0])
    assert stats.details["growths"] == 0
