"""Streams in the over-grown graph: what is emitted is the graph, and at eps = 0 the old model."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fxgrow.capture import Captured, capture
from fxgrow.coupling import Coupling, couple, free_for_new_neurons
from fxgrow.growth import Scores
from fxgrow.growth.emit import emit
from fxgrow.growth.materialize import parameter_updates, width_changes
from fxgrow.growth.select import Selection
from fxgrow.rewrite import OverGrown, overgrow
from tests.growth.streams import (
    NORMS,
    Both,
    Exponent,
    Mixed,
    Sandwich,
    Scaled,
    Stream,
    made,
    words,
)
from tests.rewrite.rewriting import exported_capture, randomise_candidates


def freed(captured: Captured, name: str = "words") -> Coupling:
    return free_for_new_neurons(captured, couple(captured), [name], [captured.example_inputs])


def over_grown(captured: Captured, coupling: Coupling, new: int = 5) -> OverGrown:
    growable = [n for n, width in enumerate(coupling.widths) if width.growable]
    counts = dict.fromkeys(growable, new)
    generator = torch.Generator().manual_seed(0)
    return overgrow(captured, coupling, growable, counts, generator)


def selected(grown: OverGrown, keep: Callable[[Tensor], Tensor]) -> Selection:
    """Every split candidate and some of the new ones."""
    candidates = grown.candidates
    split = torch.ones(len(candidates.split_eps), dtype=torch.bool)
    new = keep(torch.arange(len(candidates.new_eps)))
    selection = Selection(split, new, Scores(split.double(), new.double()))
    selection.switch_off_others(candidates)
    return selection


def check(captured: Captured, coupling: Coupling, keep: Callable[[Tensor], Tensor]) -> None:
    """The three models are one: over-grown graph, emitted model, its graph; and at eps = 0 the old."""
    module, (x,) = captured.model, captured.example_inputs
    grown = over_grown(captured, coupling)
    before = module(x)
    torch.testing.assert_close(grown.graph_module(x), before, rtol=1e-12, atol=1e-12)
    randomise_candidates(grown, 1)
    selection = selected(grown, keep)
    expected = grown.graph_module(x)
    assert (expected - before).abs().max() > 1e-3
    changes = width_changes(coupling, grown, selection)
    still = copy.deepcopy(module)
    emit(still, coupling, changes, parameter_updates(coupling, grown, selection, scale=0.0))
    torch.testing.assert_close(still(x), before, rtol=1e-11, atol=1e-11)
    emit(module, coupling, changes, parameter_updates(coupling, grown, selection))
    torch.testing.assert_close(module(x), expected, rtol=1e-11, atol=1e-11)
    (number,) = coupling.under_norms
    assert module.words.weight.shape[1] == changes[number].size > 6


def all_new(numbers: Tensor) -> Tensor:
    return torch.ones_like(numbers, dtype=torch.bool)


def every_other(numbers: Tensor) -> Tensor:
    return numbers % 2 == 0


CASES = [(Stream, norm) for norm in NORMS]
for kind in (Scaled, Both, Mixed):
    CASES += [(kind, norm) for norm in ("layer norm", "RMS norm", "RMS norm, 1 + gamma")]
CASES += [(Sandwich, norm) for norm in ("RMS norm", "RMS norm, bare", "RMS norm, 1 + gamma")]
CASES += [(Exponent, "RMS norm")]


@pytest.mark.parametrize("keep", [all_new, every_other])
@pytest.mark.parametrize(("network", "norm"), CASES)
def test_emitted_equals_over_grown(
    network: type[Stream], norm: str, keep: Callable[[Tensor], Tensor]
) -> None:
    model = made(network(NORMS[norm])).requires_grad_(False)
    captured = capture(model, words())
    check(captured, freed(captured), keep)


@pytest.mark.parametrize("norm", ["layer norm", "RMS norm", "RMS norm, 1 + gamma"])
def test_tied_embeddings(norm: str) -> None:
    model = made(Stream(NORMS[norm], tied=True)).requires_grad_(False)
    captured = capture(model, words())
    check(captured, freed(captured), every_other)


@pytest.mark.parametrize("norm", ["layer norm", "layer norm, functional", "RMS norm"])
@pytest.mark.parametrize("tied", [False, True])
def test_an_exported_graph(norm: str, tied: bool) -> None:
    model = made(Stream(NORMS[norm], tied)).requires_grad_(False)
    captured = exported_capture(model, (words(),))
    check(captured, freed(captured), every_other)
