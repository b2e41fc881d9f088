"""``assert_rewrite``: graph text and edit counts are exact. ``assert_faithful``: what is emitted is the graph."""

import copy

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_structure

from fxgrow.capture import Captured, How, PartReport, capture
from fxgrow.capture.export import export_graph
from fxgrow.coupling import Coupling, couple
from fxgrow.growth import Scores
from fxgrow.growth.emit import emit
from fxgrow.growth.materialize import parameter_updates, width_changes
from fxgrow.growth.result import graph_text
from fxgrow.growth.select import Selection
from fxgrow.rewrite import OverGrown, overgrow


def over_grown(
    module: nn.Module, x: torch.Tensor, *, split: bool = True, new: int = 0, seed: int = 0
) -> OverGrown:
    """The over-grown graph with every growable width split and given ``new`` neurons; base weights frozen."""
    captured = capture(module.requires_grad_(False), (x,))
    coupling = couple(captured)
    numbers = [n for n, width in enumerate(coupling.widths) if width.growable]
    generator = torch.Generator().manual_seed(seed)
    return overgrow(
        captured, coupling, numbers if split else [], dict.fromkeys(numbers, new), generator
    )


def assert_rewrite(
    module: nn.Module, x: torch.Tensor, expected: str, edits: dict[str, int], **candidates: int
) -> None:
    """The over-grown graph of ``module`` is exactly this text, made with exactly these many insertions per rule."""
    grown = over_grown(module, x, **candidates)  # type: ignore[arg-type]
    assert graph_text(grown.graph_module) == expected
    assert dict(grown.edits) == edits


def randomise_candidates(grown: OverGrown, seed: int = 1) -> None:
    """Every candidate on, with random directions and outgoing weights."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in grown.graph_module.parameters():
            if parameter.requires_grad:
                parameter.copy_(
                    0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                )


def exported_capture(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Captured:
    """The module captured by torch.export, whatever torch.fx makes of it."""
    attempt = export_graph(module, inputs, module(*inputs))
    assert attempt.graph_module is not None, attempt.why
    return Captured(module, attempt.graph_module, inputs, (PartReport("", How.EXPORTED),))


def assert_faithful(
    captured: Captured, *, new: int = 3, seed: int = 0, regrows: bool = True
) -> tuple[Coupling, OverGrown]:
    """Over-grow every growable width, keep a random half of the candidates, emit: graph and emitted model agree.

    In float64, to rounding; with eps = 0 the emitted model is the old one. The candidates must change the output.
    Without ``regrows`` the old graph holds sizes as numbers, so it does not run on grown parameters.
    """
    module, inputs = captured.model.requires_grad_(False), captured.example_inputs
    coupling = couple(captured)
    numbers = [n for n, width in enumerate(coupling.widths) if width.growable]
    grown = overgrow(
        captured,
        coupling,
        numbers,
        dict.fromkeys(numbers, new),
        torch.Generator().manual_seed(seed),
    )
    randomise_candidates(grown, seed)
    generator = torch.Generator().manual_seed(seed)
    scores = Scores(grown.candidates.split_eps.detach(), grown.candidates.new_eps.detach())
    selection = Selection(
        *(torch.rand(len(one), generator=generator) < 0.5 for one in (scores.split, scores.new)),
        scores,
    )
    selection.switch_off_others(grown.candidates)
    assert tree_structure(grown.graph_module(*inputs)) == tree_structure(
        captured.graph_module(*inputs)
    )
    expected, before = (tree_leaves(one(*inputs)) for one in (grown.graph_module, module))
    assert any((a - b).abs().max() > 1e-5 for a, b in zip(expected, before, strict=True))
    changes, still = width_changes(coupling, grown, selection), copy.deepcopy(module)
    emit(still, coupling, changes, parameter_updates(coupling, grown, selection, scale=0.0))
    emit(module, coupling, changes, parameter_updates(coupling, grown, selection))
    emissions = [(module, expected), (still, before)]
    if regrows:
        emissions.append((captured.graph_module, expected))
    for emitted, wanted in emissions:
        torch.testing.assert_close(tree_leaves(emitted(*inputs)), wanted, rtol=1e-12, atol=1e-12)
    return coupling, grown
