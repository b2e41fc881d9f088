"""Nothing is silent: every axis is a site of a width, or listed with the reason why it keeps its size."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fxgrow
from tests.networks import NETWORKS, images, network
from tests.random_networks import IMAGE, PLANS
from tests.random_networks import network as random_network
from tools.sweep import silent_axes


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(PLANS, st.integers(0, 999))
def test_no_axis_of_a_random_network_is_silent(blocks: list[str], seed: int) -> None:
    model = random_network(blocks, seed)
    assert silent_axes(model, fxgrow.couple(model, IMAGE)) == []


@pytest.mark.parametrize("name", NETWORKS)
def test_no_axis_is_silent(name: str) -> None:
    model = network(name)
    coupling = fxgrow.couple(model, images())
    assert silent_axes(model, coupling) == []
    assert all(axis.refusal.reason and axis.refusal.code for axis in coupling.fixed_axes)


class Odd(nn.Module):
    """A weight turned round (no rule), one that is not used, numbers that are no reals, a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 3)
        self.idle = nn.Parameter(torch.randn(4, 2))
        self.summed = nn.Parameter(torch.randn(7))
        self.register_buffer("order", torch.arange(5))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.a.weight.rot90(2)
        return self.b(torch.tanh(F.linear(x[:, self.order], weight))) * self.summed.sum()


def test_reasons() -> None:
    model = Odd()
    coupling = fxgrow.couple(model, torch.randn(3, 5))
    assert silent_axes(model, coupling) == []
    reasons = {axis.key: axis.refusal.code for axis in coupling.fixed_axes}
    assert reasons["idle", 0] == reasons["idle", 1] == reasons["order", 0] == "unseen"
    assert reasons["a.bias", 0] == "unseen" and reasons["summed", 0] == "reduced"
    (width,) = [
        width for width in coupling.widths if ("b.weight", 1) in {s.key for s in width.sites}
    ]
    assert ("a.weight", 0) in {site.key for site in width.sites}
    assert width.refusal is not None and width.refusal.code == "unknown-operator"
    assert "rot90" in width.refusal.reason and "test_fixed_axes.py" in width.refusal.nodes[0]


def test_kernels_and_inputs_say_why() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
    coupling = fxgrow.couple(model, torch.randn(1, 3, 5, 5))
    reasons = {axis.key: axis.refusal.code for axis in coupling.fixed_axes}
    assert reasons["0.weight", 2] == reasons["0.weight", 3] == "space"
    assert reasons["0.weight", 1] == "fixed-size"


class Centers(nn.Module):
    """Distances from centers, which are learned or given."""

    def __init__(self, *, learned: bool) -> None:
        super().__init__()
        self.centers, self.last = nn.Parameter(torch.randn(6, 5)), nn.Linear(6, 3)
        if not learned:
            centers = self.centers.detach()
            del self.centers
            self.register_buffer("centers", centers)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.exp(-torch.cdist(x, self.centers)))


def test_neurons_that_begin_at_a_parameter_are_a_width() -> None:
    coupling = fxgrow.couple(Centers(learned=True), torch.randn(4, 5))
    centers = coupling.widths[-1]
    assert (centers.name, centers.size, centers.growable, centers.begun) == ("centers", 6, True, True)  # fmt: skip
    roles = {site.key: site.role for site in centers.sites}
    assert roles == {("centers", 0): "carries", ("last.weight", 1): "reads"}
    assert not coupling.widths[0].begun


def test_a_norm_of_the_inputs_begins_no_width() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    coupling = fxgrow.couple(model, torch.randn(5, 3))
    assert [width.name for width in coupling.widths] == ["1", "3"]
    reasons = {axis.key: axis.refusal.code for axis in coupling.fixed_axes}
    assert reasons["0.weight", 0] == reasons["1.weight", 1] == "fixed-size"


def test_neurons_that_begin_at_constants_say_so() -> None:
    coupling = fxgrow.couple(Centers(learned=False), torch.randn(4, 5))
    reasons = {axis.key: axis.refusal.code for axis in coupling.fixed_axes}
    assert reasons["centers", 0] == reasons["last.weight", 1] == "unwritten"
    assert reasons["centers", 1] == "fixed-size"
