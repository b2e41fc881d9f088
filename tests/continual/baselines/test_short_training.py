import pytest
import torch
from torch import Tensor, nn

from fxgrow.continual.baselines.short_training import ShortTraining
from fxgrow.errors import GrowthError
from fxgrow.growth import Objective
from tests.continual.tiny import model, objective


def test_the_free_entries_alone_move_and_the_loss_falls() -> None:
    network = model().train()
    network[3].weight.requires_grad_(requires_grad=False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    free = {"3.weight": torch.zeros_like(network[3].weight, dtype=torch.bool)}
    free["3.weight"][1] = True
    goal = objective(network)
    network.eval()
    loss = goal.mean(network)
    ShortTraining(steps=8, decay=0.1).descend(network.train(), goal, free)
    assert (
        network.training and not network[3].weight.requires_grad and network[0].weight.requires_grad
    )
    assert goal.mean(network.eval()) < loss
    for name, tensor in network.state_dict().items():
        same = tensor == before[name]
        assert same.all() if name not in free else torch.equal(same, ~free[name])


def test_a_proximal_step_is_as_long_as_a_constant_gradient_is_in_the_long_run() -> None:
    layer, lengths = nn.Linear(1, 1, bias=False), []
    goal = Objective([((torch.ones(1, 1),), torch.zeros(1))], lambda output, _: output.sum())
    places: list[float] = []

    def note(length: float) -> None:
        lengths.append(length)
        places.append(float(layer.weight))

    ShortTraining(steps=80, rate=0.1, momentum=0.5, decay=0).descend(
        layer, goal, {"weight": torch.ones(1, 1, dtype=torch.bool)}, note
    )
    assert lengths[-1] == pytest.approx(places[-2] - places[-1], abs=1e-5)


def test_a_loss_that_is_no_number_stops_it() -> None:
    def lost(output: Tensor, _: Tensor) -> Tensor:
        return output.sum() * torch.nan

    network = model()
    goal = Objective(objective(network).batches, lost)
    with pytest.raises(GrowthError, match="lower the rate"):
        ShortTraining().descend(network, goal, {"7.bias": torch.ones(2, dtype=torch.bool)})
