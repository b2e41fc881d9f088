"""The control that every growth result is shown beside: random candidates in random directions.

Reference: the RandSearch baselines of Wu et al. 2020, Fig. 3, with one draw (the best of k is the caller's loop).
"""

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fxgrow.coupling import Coupling
from fxgrow.growth import Neighbourhood, Objective, Scores
from fxgrow.methods.firefly.neighbourhood import layers, start
from fxgrow.rewrite import OverGrown


class RandomGrowth(BaseModel):
    """Settings: as Firefly's, without the two steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    split: bool = True
    new: int = Field(default=8, ge=0)
    eps: float = Field(default=0.1, gt=0)

    def neighbourhood(self, coupling: Coupling) -> Neighbourhood:
        """The same candidates as Firefly's."""
        growable = [number for number, width in enumerate(coupling.widths) if width.growable]
        return Neighbourhood(frozenset(growable if self.split else ()), dict.fromkeys(growable, self.new))

    def search(self, grown: OverGrown, objective: Objective, generator: torch.Generator) -> Scores:
        """Random directions of norm 1 and a random order of the candidates."""
        start(grown, self.eps, generator)
        with torch.no_grad():
            for layer in layers(grown):
                for outgoing in layer.outgoing:
                    outgoing.copy_(torch.randn(outgoing.shape, generator=generator) / outgoing[:, 0].numel() ** 0.5)
        return Scores(*(_random(eps, generator) for eps in (grown.candidates.split_eps, grown.candidates.new_eps)))

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Nothing: a control does not look at the loss."""


def _random(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(len(like), generator=generator, dtype=torch.float64).to(like)
