"""``assert_rewrite``: over-grow a module and compare graph text and edit counts exactly."""

import torch
from torch import nn

from fxgrow.capture import capture
from fxgrow.coupling import couple
from fxgrow.growth.result import dump
from fxgrow.rewrite import OverGrown, overgrow


def over_grown(module: nn.Module, x: torch.Tensor, *, split: bool = True, new: int = 0, seed: int = 0) -> OverGrown:
    """The over-grown graph with every growable width split and given ``new`` neurons; base weights frozen."""
    captured = capture(module.requires_grad_(False), (x,))
    coupling = couple(captured)
    numbers = [n for n, width in enumerate(coupling.widths) if width.growable]
    generator = torch.Generator().manual_seed(seed)
    return overgrow(captured, coupling, numbers if split else [], dict.fromkeys(numbers, new), generator)


def assert_rewrite(module: nn.Module, x: torch.Tensor, expected: str, edits: dict[str, int], **candidates: int) -> None:
    """The over-grown graph of ``module`` is exactly this text, made with exactly these many insertions per rule."""
    grown = over_grown(module, x, **candidates)  # type: ignore[arg-type]
    assert dump(grown.graph_module) == expected
    assert dict(grown.edits) == edits


def randomise_candidates(grown: OverGrown, seed: int = 1) -> None:
    """Every candidate on, with random directions and outgoing weights."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in grown.graph_module.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
