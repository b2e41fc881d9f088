import torch
from torch import nn

from fxgrow.continual.baselines.sparsity import shrink_groups, soft_threshold, writer_weights
from fxgrow.coupling import couple


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))


def test_soft_thresholding() -> None:
    weight = torch.tensor([3.0, -0.5, -2.0, 0.0])
    soft_threshold(weight, 1.0)
    assert weight.tolist() == [2, 0, -1, 0]


@torch.no_grad()
def test_a_group_shrinks_as_a_whole_or_vanishes() -> None:
    given = net()
    given[0].weight.copy_(torch.tensor([[3.0, 0], [0, 3], [0.1, 0]]))
    given[0].bias.copy_(torch.tensor([4.0, 4, 0]))
    new = {"0": torch.tensor([False, True, True])}
    rest = given[2].weight.clone()
    shrink_groups(couple(given, (torch.zeros(1, 2),)), dict(given.named_parameters()), new, 2.5)
    assert given[0].weight.tolist() == [[3, 0], [0, 1.5], [0, 0]] and given[0].bias.tolist() == [
        4,
        2,
        0,
    ]
    assert torch.equal(given[2].weight, rest)


def test_the_weights_of_a_part_lie_between_its_neurons() -> None:
    given = net()
    leading = {"0": torch.tensor([True, False, True]), "2": torch.tensor([False, True])}
    found = writer_weights(
        couple(given, (torch.zeros(1, 2),)), dict(given.named_parameters()), leading
    )
    assert found["0.weight"].tolist() == [[True, True], [False, False], [True, True]]
    assert found["2.weight"].tolist() == [[False, False, False], [True, False, True]]
    assert found["2.bias"].tolist() == [False, True]
