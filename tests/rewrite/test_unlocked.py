"""Without halves a candidate is one unlocked neuron: theta + eps delta, and nothing beside it."""

import copy

import pytest
import torch
from torch import nn

from fxgrow.capture import capture
from fxgrow.coupling import couple
from fxgrow.growth.result import graph_text
from fxgrow.rewrite import OverGrown, OvergrownLayer, overgrow
from fxgrow.rewrite.candidate_scaling import scaled_candidates
from fxgrow.rewrite.candidates import Slots
from fxgrow.rewrite.linear_op import LinearOp
from fxgrow.rewrite.operators import LINEAR_FORM
from tests.networks import NETWORKS, images, network
from tests.rewrite.rewriting import randomise_candidates


def unlocked(module: nn.Module, *, halves: bool = False, new: int = 0) -> OverGrown:
    captured = capture(module.requires_grad_(False), (images(),))
    coupling = couple(captured)
    numbers = [n for n, width in enumerate(coupling.widths) if width.growable]
    return overgrow(
        captured, coupling, numbers, dict.fromkeys(numbers, new), torch.Generator(), halves=halves
    )


def moved_by_hand(module: nn.Module, grown: OverGrown) -> nn.Module:
    """The plain model, with eps_i unit delta_i added to the rows of every layer that writes neuron i."""
    moved = copy.deepcopy(module)
    for path, layer in grown.graph_module.get_submodule("fxgrow_grown").named_modules():
        if isinstance(layer, OvergrownLayer) and layer.delta is not None:
            own = moved.get_submodule(path)
            for row, index in enumerate(layer.split.tolist()):  # type: ignore[operator, union-attr]
                eps = float(grown.candidates.split_eps.detach()[index]) if index >= 0 else 0.0
                for tensor, delta in zip((own.weight, own.bias), layer.delta, strict=False):
                    tensor.data[row] += eps * layer.unit_row * delta[row].detach()  # type: ignore[index, operator, union-attr]
    return moved


@pytest.mark.parametrize("name", NETWORKS)
def test_an_unlocked_neuron_computes_with_what_was_added(name: str) -> None:
    module = network(name)
    grown = unlocked(module)
    randomise_candidates(grown)
    expected = moved_by_hand(module, grown)(images())
    assert (expected - module(images())).abs().max() > 1e-3
    torch.testing.assert_close(grown.graph_module(images()), expected, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        grown.candidates.split_eps.zero_()
    torch.testing.assert_close(grown.graph_module(images()), module(images()), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_there_is_no_other_half(name: str) -> None:
    """Where the graph with halves has some."""
    assert "minus" in graph_text(unlocked(network(name), halves=True, new=1).graph_module)
    grown = unlocked(network(name), new=1)
    assert "minus" not in graph_text(grown.graph_module) and not grown.candidates.halves


def test_a_layer_without_halves_gives_one_value() -> None:
    torch.manual_seed(0)
    base = nn.Linear(3, 2).double()
    rows = [Slots(1, torch.tensor([0]))]
    index = torch.tensor([0, -1])
    layer = OvergrownLayer(
        LinearOp("weight", "bias", LINEAR_FORM),
        base.weight,
        base.bias,
        index,
        rows,
        [],
        halves=False,
    )
    for parameter in (*layer.delta, *layer.new):  # type: ignore[misc]
        nn.init.normal_(parameter)
    x, eps = torch.randn(5, 3).double(), torch.tensor([0.5]).double()
    z, new = layer(x, None, [], scaled_candidates([layer], eps, torch.tensor([0.1]).double())[0])
    change = layer.unit_row * 0.5 * (x @ layer.delta[0][0] + layer.delta[1][0])  # type: ignore[index]
    torch.testing.assert_close(z, base(x) + torch.stack([change, torch.zeros(5).double()], 1))
    assert new.shape == (5, 1)
