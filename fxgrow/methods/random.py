"""The control that every growth result is shown beside: random candidates in random directions, the best of a few.

Reference: RandSearch of Wu et al. 2020, Fig. 3: pick at random, k = 3 times, and keep the best. ``new=0`` is RandSearch
(split), else RandSearch (split + new). How we differ: the best is the one with the lowest loss on the growth batches
right after growing (the paper does not say when it looks).
"""

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fxgrow.coupling import Coupling
from fxgrow.documents import limits
from fxgrow.growth import Objective, Proposal, Scores, SelectFunction
from fxgrow.methods.firefly.neighborhood import candidate_directions, initialize, overgrown_layers
from fxgrow.rewrite import OverGrown

CandidateDraw = tuple[Scores, list[Tensor]]
"""The random scores of the candidates, and their directions."""


class RandomGrowth(BaseModel):
    """Settings: the candidates and ``eps`` as Firefly's; ``draws``: random selections to try (1 looks at no loss)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    split: bool = True
    new: int = Field(default=8, ge=0, le=limits.CANDIDATES)
    eps: float = Field(default=0.1, gt=0, le=limits.RATE)
    draws: int = Field(default=3, ge=1, le=limits.STEPS)

    def propose(self, coupling: Coupling) -> Proposal:
        """The same candidates as Firefly's."""
        growable = [number for number, width in enumerate(coupling.widths) if width.growable]
        return Proposal(
            frozenset(growable if self.split else ()), dict.fromkeys(growable, self.new)
        )

    def search(
        self,
        grown: OverGrown,
        objective: Objective,
        generator: torch.Generator,
        choose: SelectFunction,
    ) -> Scores:
        """Of ``draws`` selections, each with random directions of norm 1, the one with the lowest loss."""
        drawn = [self._draw(grown, generator) for _ in range(self.draws)]
        if len(drawn) == 1:
            return drawn[0][0]
        best = min(drawn, key=lambda draw: self._loss(grown, objective, draw, choose))
        self._put(grown, best)
        return best[0]

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Nothing: a control does not look at the gradient."""

    def _draw(self, grown: OverGrown, generator: torch.Generator) -> CandidateDraw:
        """Random directions and a random order of the candidates."""
        initialize(grown, self.eps, generator)
        with torch.no_grad():
            for layer in overgrown_layers(grown):
                for outgoing in layer.outgoing:
                    outgoing.copy_(
                        torch.randn(outgoing.shape, generator=generator)
                        / outgoing[:, 0].numel() ** 0.5
                    )
        scores = Scores(
            *(
                _random(eps, generator)
                for eps in (grown.candidates.split_eps, grown.candidates.new_eps)
            )
        )
        return scores, [direction.detach().clone() for direction in candidate_directions(grown)]

    def _loss(
        self, grown: OverGrown, objective: Objective, draw: CandidateDraw, choose: SelectFunction
    ) -> float:
        """The loss with what the budget keeps of a draw."""
        self._put(grown, draw)
        choose(draw[0]).switch_off_others(grown.candidates)
        return objective.mean(grown.graph_module)

    @torch.no_grad()
    def _put(self, grown: OverGrown, draw: CandidateDraw) -> None:
        """Every candidate on, in the directions of a draw."""
        for eps in (grown.candidates.split_eps, grown.candidates.new_eps):
            eps.fill_(self.eps)
        for direction, values in zip(candidate_directions(grown), draw[1], strict=True):
            direction.copy_(values)


def _random(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(len(like), generator=generator, dtype=torch.float64).to(like)
