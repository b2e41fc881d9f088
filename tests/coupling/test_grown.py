"""The widths of a grown model by the old ones: the same as ``couple`` finds, or none."""

import random

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from fxgrow.capture import Captured, capture
from fxgrow.coupling import Coupling, Width, couple, grown_widths
from fxgrow.growth.emit import emit
from fxgrow.surgery import Change
from tests import random_networks
from tests.networks import NETWORKS, images, network

CERTAIN = sorted(NETWORKS.keys() - {"block"})


def grown(module: nn.Module, x: Tensor, seed: int = 0) -> tuple[Captured, Coupling, Captured, dict[int, Change]]:  # fmt: skip
    """A module that was coupled, and grew in some widths."""
    before, rng = capture(module.eval(), x), random.Random(seed)
    coupling = couple(before)
    changes: dict[int, Change] = {}
    for number, width in enumerate(coupling.widths):
        if width.growable and (rng.random() < 0.8 or not changes):
            times = [1] * width.size
            times[rng.randrange(width.size)] += rng.randrange(2)
            changes[number] = Change(times, rng.randrange(1, 3))
    emit(module, coupling, changes, {})
    return before, coupling, capture(module, x), changes


def derived(module: nn.Module, x: Tensor, seed: int = 0) -> tuple[tuple[Width, ...] | None, tuple[Width, ...]]:  # fmt: skip
    """The widths by the old ones, and those that coupling finds."""
    before, coupling, after, changes = grown(module, x, seed)
    return grown_widths(coupling, changes, before, after), couple(after).widths


@pytest.mark.parametrize("name", CERTAIN)
def test_the_same_as_coupling_finds(name: str) -> None:
    ours, found = derived(network(name), images())
    assert ours == found


@settings(max_examples=10, deadline=None)
@given(random_networks.PLANS)
def test_of_random_networks(plan: list[str]) -> None:
    ours, found = derived(random_networks.network(plan, 0), random_networks.IMAGE, len(plan))
    assert ours is None or ours == found


class Sized(nn.Module):
    """Its size stands in an attribute, or is read by its code, or is that of one neuron."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.size = kind, 1 if kind == "single" else 4
        self.write, self.middle = nn.Linear(3, self.size), nn.Linear(self.size, 5)
        self.read = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.write(x)
        if self.kind == "attribute":
            h = h.view(-1, self.size)
        if self.kind == "value":
            h = h / h.shape[1]
        return self.read(self.middle(h).relu())


@pytest.mark.parametrize("kind", ["attribute", "value", "single"])
def test_what_depends_on_a_size_is_left_to_coupling(kind: str) -> None:
    assert derived(Sized(kind), torch.randn(2, 3))[0] is None


class Untraced(nn.Module):
    """A part without parameters that is one call in the graph."""

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError
        return torch.relu(x)


def test_an_opaque_part_without_parameters_is_left_to_coupling() -> None:
    module = nn.Sequential(nn.Linear(3, 4), Untraced(), nn.Linear(4, 2))
    ours, found = derived(module, torch.randn(2, 3))
    assert ours is None
    assert found


def test_another_program_is_left_to_coupling() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    before, coupling, after, changes = grown(module, torch.randn(2, 3))
    assert grown_widths(coupling, changes, before, after) is not None
    node = next(iter(after.graph_module.graph.find_nodes(op="call_module", target="1")))
    node.kwargs = {"inplace": True}
    assert grown_widths(coupling, changes, before, after) is None


class ChoosesByAMethod(nn.Module):
    """A method that cannot be traced is one call in the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.write, self.read = nn.Linear(3, 4), nn.Linear(4, 2)

    def kept(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:  # a value, which torch.export does not know either
            raise ValueError
        return torch.relu(x)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.read(self.kept(self.write(x)))
        return out


def test_an_opaque_method_is_left_to_coupling() -> None:
    before, coupling, after, changes = grown(ChoosesByAMethod(), torch.randn(2, 3))
    assert before.traced_share == 1
    assert grown_widths(coupling, changes, before, after) is None
