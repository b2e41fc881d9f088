"""Identity layers keep the function, are bought whole, in an order that is drawn whatever they cost."""

import pytest
import torch
from torch.nn import functional as F

from fxgrow import Budget
from fxgrow.methods import Net2Deeper
from fxgrow.methods.morphisms import draw_order
from tests.methods.growing import (
    assert_kept,
    assert_seeded,
    chosen_widths,
    grown,
    labelled,
    overgrown,
)
from tests.networks import NETWORKS, network


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("norm", [False, True])
def test_the_function_is_kept(name: str, norm: bool) -> None:
    growth = assert_kept(Net2Deeper(layers=3, norm=norm), Budget(neurons=6), name)
    assert sum(layer.neurons for layer in growth.report.layers) == 6
    assert not growth.report.widths


def test_a_layer_is_as_wide_as_what_it_reads() -> None:
    layers = grown(Net2Deeper(), Budget(neurons=100), "residual").report.layers
    sizes = {layer.after: layer.neurons for layer in layers}
    assert sizes == {"relu": 4, "relu_1": 5, "relu_2": 4, "relu_3": 3, "relu_4": 6}


def test_layers_are_bought_whole() -> None:
    graph, choose = overgrown(Net2Deeper(layers=4), Budget(neurons=10), network("residual"))
    for seed in range(8):
        scores = draw_order(graph, torch.Generator().manual_seed(seed))
        assert sorted(chosen_widths(graph, choose(scores)).values()) == [2, 4, 4]


def test_the_order_does_not_depend_on_what_layers_cost() -> None:
    """By parameters the dearest layer costs twice as much as the cheapest, and comes first as often."""
    budget = Budget(parameters=1000, layers=1)
    graph, choose = overgrown(Net2Deeper(layers=1), budget, network("residual"))
    generator = torch.Generator().manual_seed(0)
    first = {graph.coupling.widths[number].name: 0 for number in graph.candidates.new}
    for _ in range(100):
        (name,) = chosen_widths(graph, choose(draw_order(graph, generator)))
        first[name] += 1
    assert len(first) == 5 and min(first.values()) >= 12


def test_new_layers_learn() -> None:
    growth = grown(Net2Deeper(layers=3), Budget(neurons=3, layers=1))
    (layer,) = growth.report.layers
    x, y = labelled()[0]
    F.cross_entropy(growth.module(x), y).backward()
    module = growth.module.get_submodule(layer.name)
    weight = module.get_submodule("outgoing").weight
    assert not weight.any() and weight.grad is not None and weight.grad.any()
    assert module.get_submodule("incoming").weight.any()


def test_the_seed_decides() -> None:
    assert_seeded(Net2Deeper(layers=2), Budget(neurons=3), "residual")


def test_places_can_be_named() -> None:
    layers = grown(Net2Deeper(at=("relu_2",)), Budget(neurons=9), "residual").report.layers
    assert [layer.after for layer in layers] == ["relu_2"]
