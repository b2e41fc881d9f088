"""Streams in the over-grown graph: what is emitted is the graph, and at eps = 0 the old model."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fxgrow.capture import Captured, capture
from fxgrow.coupling import Coupling, couple, free_for_new_neurons
from fxgrow.growth import Scores
from fxgrow.growth.candidate_transfer import copy_candidates
from fxgrow.growth.emit import emit
from fxgrow.growth.materialize import parameter_updates, width_changes
from fxgrow.growth.select import Selection
from fxgrow.rewrite import OverGrown, overgrow
from fxgrow.rewrite.norms import OvergrownNorm
from tests.growth import group_norms, response_norms
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


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


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
    for number in coupling.under_norms:
        writer, axis = coupling.widths[number].sites[0].key
        assert module.get_parameter(writer).shape[axis] == changes[number].size > 6


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


@pytest.mark.parametrize("keep", [all_new, every_other])
@pytest.mark.parametrize("norm", response_norms.NORMS)
def test_global_response_norms(norm: str, keep: Callable[[Tensor], Tensor]) -> None:
    model = made(response_norms.Mlp(response_norms.NORMS[norm])).requires_grad_(False)
    captured = capture(model, response_norms.images())
    check(captured, freed(captured, "up"), keep)


@pytest.mark.parametrize("norm", ["fused", "written out", "bare"])
def test_an_exported_global_response_norm(norm: str) -> None:
    model = made(response_norms.Mlp(response_norms.NORMS[norm])).requires_grad_(False)
    captured = exported_capture(model, (response_norms.images(),))
    check(captured, freed(captured, "up"), every_other)


@pytest.mark.parametrize("keep", [all_new, every_other])
@pytest.mark.parametrize("norm", ["module", "bare", "by function"])
@pytest.mark.parametrize("how", [capture, exported_capture])
def test_group_norms(norm: str, keep: Callable[[Tensor], Tensor], how: Any) -> None:
    model = group_norms.made(norm).requires_grad_(False)
    captured = how(model, (group_norms.images(),))
    coupling = couple(captured)
    assert over_grown(captured, coupling).candidates.new
    check(captured, coupling, keep)


def streams_only(network: Stream, new: int = 3) -> OverGrown:
    captured = capture(network.requires_grad_(False), words())
    coupling = freed(captured)
    (number,) = coupling.under_norms
    return overgrow(captured, coupling, [number], {number: new}, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("norm", ["layer norm", "RMS norm"])
def test_a_stream_does_not_split(norm: str) -> None:
    grown = streams_only(made(Stream(NORMS[norm])))
    assert len(grown.candidates.split_eps) == 0
    assert len(grown.candidates.new_eps) == 3


@pytest.mark.parametrize("norm", ["layer norm", "RMS norm"])
def test_what_is_off_is_as_if_it_were_not_there(norm: str) -> None:
    model = made(Stream(NORMS[norm], tied=norm == "RMS norm"))
    alone, beside = streams_only(model, 1), streams_only(model, 3)
    randomise_candidates(beside)
    copy_candidates(beside, alone, {0: torch.tensor([True, False, False])})
    assert (beside.graph_module(words()) - alone.graph_module(words())).abs().max() > 1e-3
    with torch.no_grad():
        beside.candidates.new_eps[1:] = 0
    torch.testing.assert_close(
        beside.graph_module(words()), alone.graph_module(words()), rtol=1e-12, atol=1e-12
    )


def test_a_norm_counts_what_was_selected_though_its_eps_is_zero() -> None:
    captured = capture(made(Stream(NORMS["layer norm"])).requires_grad_(False), words())
    coupling, model = freed(captured), captured.model
    grown = over_grown(captured, coupling)
    randomise_candidates(grown)
    (number,) = coupling.under_norms
    with torch.no_grad():
        grown.candidates.new_eps[grown.candidates.new[number]][1:3] = 0
    selection = selected(grown, all_new)
    expected = grown.graph_module(words())
    changes = width_changes(coupling, grown, selection)
    assert changes[number].new == 5
    emit(model, coupling, changes, parameter_updates(coupling, grown, selection))
    torch.testing.assert_close(model(words()), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("norm", ["layer norm", "RMS norm"])
def test_the_loss_has_a_slope_where_everything_is_off(norm: str) -> None:
    grown = streams_only(made(Stream(NORMS[norm])))
    randomise_candidates(grown)
    eps = grown.candidates.new_eps
    with torch.no_grad():
        eps.zero_()
    value = grown.graph_module(words()).square().sum()
    (slope,) = torch.autograd.grad(value, [eps])
    assert slope.abs().min() > 1e-3
    step = 1e-6
    for number in range(len(eps)):
        with torch.no_grad():
            eps.zero_()
            eps[number] = step
            moved = grown.graph_module(words()).square().sum()
            eps[number] = -step
            other = grown.graph_module(words()).square().sum()
        # A candidate that is on counts in the center of a layer norm, which it does not at 0.
        torch.testing.assert_close((moved - other) / (2 * step), slope[number], rtol=0.2, atol=1e-6)


def test_half_precision_is_normalized_in_float32() -> None:
    norm = OvergrownNorm(1e-5, is_centered=True, places=slice(0, 2))
    x = 300 * torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    none, off = (None, None), torch.zeros(2, dtype=torch.bool)
    eps = torch.zeros(2, dtype=torch.float16)
    plus, lane = norm(x.half(), torch.zeros(4, 2).half(), eps, off, none, none)
    assert plus.dtype == lane.dtype == torch.float16
    expected = torch.nn.functional.layer_norm(x.half(), (8,))
    torch.testing.assert_close(plus, expected, rtol=2e-3, atol=2e-3)
    assert not lane.any()


def test_candidates_of_positions_are_carried_to_a_smaller_graph() -> None:
    model = made(Stream(NORMS["layer norm"]))
    one, two = streams_only(model, 2), streams_only(model, 3)
    randomise_candidates(two)
    copy_candidates(two, one, {0: torch.tensor([True, False, True])})
    (from_two,) = [entry for entry in two.entries if entry.unit is not None]
    (from_one,) = [entry for entry in one.entries if entry.unit is not None]
    assert torch.equal(from_one.parameter_itself, from_two.parameter_itself[:, [0, 2]])
