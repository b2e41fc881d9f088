"""One layer per growth, from zero or at random."""

import copy

import pytest
import torch
from torch.nn import functional as F

from fxgrow import Budget
from fxgrow.growth import Objective
from fxgrow.methods import AutoGrow
from fxgrow.methods.morphisms import draw_order
from fxgrow.rewrite.candidate_scaling import scaled_candidates
from tests.methods.growing import (
    assert_kept,
    assert_seeded,
    chosen_widths,
    grown,
    labelled,
    overgrown,
    same_weights,
)
from tests.networks import NETWORKS, images, network


@pytest.mark.parametrize("name", NETWORKS)
def test_one_layer_that_keeps_the_function(name: str) -> None:
    growth = assert_kept(AutoGrow(norm=True), Budget(parameters=10**6), name)
    assert len(growth.report.layers) == 1 and not growth.report.widths


@pytest.mark.parametrize("layers", [None, 1, 3])
def test_one_layer_whatever_the_budget_allows(layers: int | None) -> None:
    growth = grown(AutoGrow(layers=2), Budget(neurons=100, layers=layers), "residual")
    (layer,) = growth.report.layers
    assert layer.neurons == 2


def test_a_random_layer_changes_the_function_but_does_not_raise_the_loss() -> None:
    model, x = network("chain"), images(5)
    halved, changed = 0, False
    for seed in range(3):
        growth = grown(
            AutoGrow(init="random"),
            Budget(neurons=9),
            model=model,
            seed=seed,
            accept_no_gain=True,
            refresh_statistics=False,
        )
        report = growth.report
        assert report.loss_after <= report.loss_before
        halved += report.backtracks
        changed |= not torch.allclose(growth.module(x), model(x))
    assert halved and changed


def test_a_random_layer_is_drawn_as_torch_draws_one() -> None:
    """The standard deviation of outgoing weights is 1 / sqrt(3 fan in)."""
    method = AutoGrow(init="random", layers=300)
    graph, choose = overgrown(method, Budget(neurons=9), network("residual"))
    objective = Objective(labelled(), F.cross_entropy)
    method.search(graph, objective, torch.Generator().manual_seed(0), choose)
    weights = []
    for path, module in graph.graph_module.named_modules():
        if path.endswith("outgoing"):
            (blocks,) = scaled_candidates([module], None, graph.candidates.new_eps)
            weights.append(blocks.columns[0].flatten())
    drawn = torch.cat(weights)
    assert len(drawn) == 300 * (4 + 5 + 4 + 3 + 6)
    assert float(drawn.detach().std()) == pytest.approx((3 * 300) ** -0.5, rel=0.05)


def test_the_place_is_drawn() -> None:
    graph, choose = overgrown(AutoGrow(layers=2), Budget(neurons=9), network("residual"))
    generator, places = torch.Generator().manual_seed(0), set()
    for _ in range(30):
        ((place, neurons),) = chosen_widths(graph, choose(draw_order(graph, generator))).items()
        assert neurons == 2
        places.add(place)
    assert len(places) == 5


def test_the_seed_decides() -> None:
    # The random layer needs no gain, so nothing is halved until it is gone.
    method = AutoGrow(init="random", layers=2)
    assert_seeded(method, Budget(neurons=9), accept_no_gain=True)


def test_the_model_is_left_alone() -> None:
    model = network("residual")
    before = copy.deepcopy(model)
    grown(AutoGrow(), Budget(neurons=9), model=model)
    assert same_weights(model, before)
