"""The oracle of emission: in float64 the emitted model is the over-grown graph with the unselected switched off."""

import copy

import pytest
import torch

from fxgrow.capture import capture
from fxgrow.coupling import couple
from fxgrow.growth import Budget, Scores, emit, resolve_budget, select
from fxgrow.growth.materialize import parameter_updates, width_changes
from fxgrow.rewrite import overgrow
from tests.networks import NETWORKS, images, network
from tests.rewrite.rewriting import randomise_candidates


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NETWORKS)
def test_emitted_equals_over_grown(name: str, seed: int) -> None:
    module, x = network(name, seed).requires_grad_(False), images()
    captured = capture(module, (x,))
    coupling = couple(captured)
    numbers = [n for n, width in enumerate(coupling.widths) if width.growable]
    grown = overgrow(
        captured, coupling, numbers, dict.fromkeys(numbers, 3), torch.Generator().manual_seed(seed)
    )
    randomise_candidates(grown, seed)
    scores = Scores(
        torch.rand_like(grown.candidates.split_eps), torch.rand_like(grown.candidates.new_eps)
    )
    half = Budget(neurons=(len(scores.split) + len(scores.new)) // 2)
    selection = select(scores, grown.candidates, resolve_budget(half, captured, coupling))
    with torch.no_grad():
        grown.candidates.split_eps.mul_(selection.split)
        grown.candidates.new_eps.mul_(selection.new)
    expected, before = grown.graph_module(x), module(x)
    assert (expected - before).abs().max() > 1e-5
    changes = width_changes(coupling, grown, selection)
    still = copy.deepcopy(module)
    emit(still, coupling, changes, parameter_updates(coupling, grown, selection, scale=0.0))
    emit(module, coupling, changes, parameter_updates(coupling, grown, selection))
    torch.testing.assert_close(module(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(captured.graph_module(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(still(x), before, rtol=1e-12, atol=1e-12)
