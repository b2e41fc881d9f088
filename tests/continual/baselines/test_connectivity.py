import pytest
import torch
from torch import nn

from fxgrow.capture import capture
from fxgrow.continual.baselines.connectivity import connected_neurons, incoming_change
from fxgrow.continual.head import find_head
from fxgrow.coupling import couple
from tests.networks import NETWORKS, images, network


def test_paths_go_back_through_what_is_not_zero() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        net[4].weight.copy_(torch.tensor([[0.0, 0, 1e-6, 0], [0, 0, 0, 0]]))
        net[2].weight.copy_(
            torch.tensor([[9.0, 9, 9, 9], [9, 9, 9, 9], [5, 0.5, 0, -4], [9, 9, 9, 9]])
        )
    coupling = couple(net, (torch.zeros(1, 3),))
    found = connected_neurons(net, coupling, "4", 0.1)
    assert found["2"].tolist() == [False, False, True, False]
    assert found["0"].tolist() == [True, False, False, True]
    assert connected_neurons(net, coupling, "4", 0.01)["0"].tolist() == [True, True, False, True]


def test_a_kernel_is_one_connection_and_a_flattened_map_one_neuron() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 2)
    )
    with torch.no_grad():
        net[4].weight.zero_()[1, 7] = 1.0  # of the second map
        net[2].weight[1, 0] = 0
    found = connected_neurons(net, couple(net, (torch.zeros(1, 1, 6, 6),)), "4", 0.1)
    assert found["2"].tolist() == [False, True, False] and found["0"].tolist() == [False, True]


def test_the_norm_of_what_writes_a_neuron_counts_its_bias() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[2.0, 3], [0, 0]]))
        net[0].bias.copy_(torch.tensor([6.0, 0]))
    norms = incoming_change(couple(net, (torch.zeros(1, 2),)), dict(net.named_parameters()))
    assert norms["0"].tolist() == [7, 0]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_neuron_leads_to_the_head_if_no_weight_is_zero(name: str) -> None:
    captured = capture(network(name), (images(),))
    coupling = couple(captured)
    found = connected_neurons(captured.model, coupling, find_head(captured), 0.0)
    assert all(found[width.name].all() for width in coupling.widths if width.growable)
