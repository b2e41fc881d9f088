"""Step one lowers the loss and stays inside the box and the ball; and the method's settings and ranking."""

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from fxgrow import Firefly
from fxgrow.growth import Objective, Scores, Selection
from fxgrow.methods.firefly.neighbourhood import directions, layers, start
from fxgrow.methods.firefly.relax import relax
from tests.networks import NETWORKS, images, network
from tests.rewrite.rewriting import over_grown

OBJECTIVE = Objective([(images(8), torch.tensor([0, 1] * 4))], F.cross_entropy)


def not_asked(scores: Scores) -> Selection:
    raise AssertionError("Firefly does not try selections out")


@pytest.mark.parametrize("name", NETWORKS)
def test_relax_lowers_the_loss_within_its_constraints(name: str) -> None:
    grown = over_grown(network(name), images(), new=2)
    start(grown, 0.1, torch.Generator().manual_seed(0))
    before = OBJECTIVE.mean(grown.graph_module)
    relax(grown, OBJECTIVE, eps=0.1, steps=10, lr=0.03)
    assert OBJECTIVE.mean(grown.graph_module) < before
    for eps in (grown.candidates.split_eps, grown.candidates.new_eps):
        assert eps.abs().max() <= 0.1
    for layer in layers(grown):
        for outgoing in layer.outgoing:
            assert outgoing.transpose(0, 1).flatten(1).norm(dim=1).max() <= 1 + 1e-12


def test_step_size_falls_to_zero() -> None:
    """Adam under a gradient of one sign moves by the sum of its step sizes: lr (1 + 3/4 + 1/2 + 1/4) in four steps."""
    grown = over_grown(network("chain"), images(), new=2)
    start(grown, 0.1, torch.Generator().manual_seed(0))
    relax(grown, OBJECTIVE, eps=0.1, steps=4, lr=0.01)
    moved = max(float(outgoing.detach().abs().max()) for layer in layers(grown) for outgoing in layer.outgoing)
    assert moved == pytest.approx(0.025, rel=0.05)


def test_refining_keeps_the_unselected_off() -> None:
    grown = over_grown(network("chain"), images(), new=2)
    start(grown, 0.1, torch.Generator().manual_seed(0))
    with torch.no_grad():
        grown.candidates.split_eps[::2] = 0
        grown.candidates.new_eps[1:] = 0
    before = OBJECTIVE.mean(grown.graph_module)
    Firefly(refine_steps=10).refine(grown, OBJECTIVE)
    assert (grown.candidates.split_eps[::2] == 0).all() and (grown.candidates.new_eps[1:] == 0).all()
    assert grown.candidates.split_eps[1::2].abs().min() > 0
    assert OBJECTIVE.mean(grown.graph_module) < before


def test_directions_leave_out_eps_and_base() -> None:
    module = network("gate")
    grown = over_grown(module, images(), new=2)
    moved = {id(p) for p in directions(grown)}
    assert not moved & {id(p) for p in module.parameters()}
    assert id(grown.candidates.split_eps) not in moved and id(grown.candidates.new_eps) not in moved
    carriers = [n for n, p in grown.graph_module.named_parameters() if id(p) in moved and "depth" in n]
    assert carriers


def test_search_scores_are_gains() -> None:
    grown = over_grown(network("chain"), images(), new=2)
    method = Firefly(new=2, steps=5)
    scores = method.search(grown, OBJECTIVE, torch.Generator().manual_seed(0), not_asked)
    assert (scores.new >= 0).all()
    assert grown.candidates.new_eps.abs().unique().numel() == 1
    assert len(scores.split) == 13 and len(scores.new) == 6


@pytest.mark.parametrize("settings", [{"eps": 0}, {"new": -1}, {"path": "both"}, {"stepz": 3}])
def test_settings_are_closed(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Firefly(**settings)
