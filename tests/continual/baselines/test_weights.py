import torch
from torch import Tensor, nn

from fxgrow.continual.baselines.common import num_parameters
from fxgrow.continual.baselines.weights import (
    ComposedNetwork,
    layer_weights,
    with_weights,
    without_weights,
)
from tests.continual.tiny import model, tasks


class Doubled(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.part = nn.Parameter(weight.detach() / 2)

    def forward(self) -> Tensor:
        return 2 * self.part


def test_layers_are_convolutions_and_linear_layers_but_the_head() -> None:
    assert layer_weights(model(), "7") == ("0.weight", "3.weight")
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    assert layer_weights(tied, "2") == ("0.weight",)


def test_what_is_emptied_can_be_filled_again() -> None:
    network = model().eval()
    images = tasks(1)[0].test.images
    empty = without_weights(network, ("0.weight", "3.weight"))
    assert (
        num_parameters(empty)
        == num_parameters(network) - network[0].weight.numel() - network[3].weight.numel()
    )
    full = with_weights(empty, {"0.weight": network[0].weight, "3.weight": network[3].weight})
    assert torch.equal(full(images), network(images))
    assert full[0].weight is not network[0].weight and full[0].weight.requires_grad


def test_a_composed_network_computes_with_the_parts_and_trains_them() -> None:
    network = model()
    images = tasks(1)[0].test.images
    composed = ComposedNetwork(network, {"3.weight": Doubled(network[3].weight)})
    assert len(list(composed.parameters())) == len(list(network.parameters())) + 1
    out = composed(images)
    assert torch.equal(out, network(images))
    assert torch.equal(
        composed.network[1].running_mean, network[1].running_mean
    )  # statistics are followed
    out.sum().backward()
    assert composed.parts[0].part.grad.abs().sum() > 0
    with torch.no_grad():
        composed.parts[0].part.mul_(3)
    plain = composed.plain()
    assert torch.equal(plain(images), composed.eval()(images)) and not torch.equal(
        plain(images), network(images)
    )
