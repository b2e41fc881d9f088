"""A control for every growth result: random candidates in random directions, the best of a few.

Reference: RandSearch of Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020,
Fig. 3: select at random, k = 3 times, and keep the best. ``new=0`` is RandSearch (split), otherwise
RandSearch (split + new). How we differ: the best selection is the one with the lowest loss on the
growth batches right after growing (the paper does not say when it compares them).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from fxgrow.coupling import Coupling
from fxgrow.documents import Settings, limits
from fxgrow.growth import Objective, Proposal, Scores, SelectFunction, estimate_statistics
from fxgrow.methods.firefly.neighborhood import (
    candidate_directions,
    initialize,
    overgrown_layers,
    rows_by_eps,
)
from fxgrow.methods.proposals import propose_everywhere
from fxgrow.rewrite import OverGrown, OvergrownLayer


@dataclass(frozen=True)
class _Draw:
    """Random scores of all candidates, and random directions."""

    scores: Scores
    directions: Sequence[Tensor]


class RandomGrowth(Settings):
    """The random control.

    Args:
        split: let existing neurons split.
        new: candidates for new neurons per width; None: as many as Firefly has.
        eps: length of a step, relative to the weights of each layer.
        draws: random selections to try; with 1 the loss is never computed.

    Example:
        >>> method = RandomGrowth(draws=1)
        >>> fxgrow.grow(model, batches, loss_fn, example_inputs=inputs, method=method)
    """

    split: bool = True
    new: int | None = Field(default=None, ge=0, le=limits.CANDIDATES)
    eps: float = Field(default=0.1, gt=0, le=limits.RATE)
    draws: int = Field(default=3, ge=1, le=limits.STEPS)

    @property
    def grows_under_norms(self) -> bool:
        """Both ends of a neuron are random."""
        return True

    def propose(self, coupling: Coupling) -> Proposal:
        """Propose the same candidates as Firefly."""
        return propose_everywhere(coupling, self.new, split=self.split)

    def search(
        self,
        grown: OverGrown,
        objective: Objective,
        generator: torch.Generator,
        choose: SelectFunction,
    ) -> Scores:
        """Draw ``draws`` selections in random directions of norm 1; keep that of lowest loss."""
        draws = [self._draw(grown, generator) for _ in range(self.draws)]
        if len(draws) == 1:
            estimate_statistics(grown, objective)
            return draws[0].scores  # its directions are in the graph already
        losses = [self._loss(grown, objective, draw, choose) for draw in draws]
        best = draws[losses.index(min(losses))]
        self._apply(grown, best)
        estimate_statistics(grown, objective)
        return best.scores

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Do nothing: the control does not use the gradient."""

    def _draw(self, grown: OverGrown, generator: torch.Generator) -> _Draw:
        """Draw directions into the graph, and a random order of the candidates."""
        initialize(grown, self.eps, generator)
        with torch.no_grad():
            for layer in overgrown_layers(grown):
                for outgoing in layer.outgoing:  # [out, new, ...]
                    # A column has that many entries, so its expected norm becomes 1.
                    column_size = outgoing[:, 0].numel()
                    dtype = torch.complex64 if outgoing.is_complex() else torch.float32
                    noise = torch.randn(outgoing.shape, generator=generator, dtype=dtype)
                    outgoing.copy_(noise / column_size**0.5)
                self._draw_incoming(layer, generator)
        split_scores = random_scores(grown.candidates.split_eps, generator)
        new_scores = random_scores(grown.candidates.new_eps, generator)
        directions = [direction.detach().clone() for direction in candidate_directions(grown)]
        return _Draw(Scores(split_scores, new_scores), directions)

    def _draw_incoming(self, layer: OvergrownLayer, generator: torch.Generator) -> None:
        """Draw the rows that eps multiplies, which start at 0."""
        row_size = sum(tensor[0].numel() for tensor in layer.new or ())
        for tensor, is_multiplied in rows_by_eps([layer]):
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor[is_multiplied] = (noise / row_size**0.5).to(tensor)[is_multiplied]

    def _loss(
        self, grown: OverGrown, objective: Objective, draw: _Draw, choose: SelectFunction
    ) -> float:
        """Return the loss with the candidates of a draw that the budget would select."""
        self._apply(grown, draw)
        # New channels are normalized by what they see, as Firefly's are: else emission would make
        # up for statistics of 0 and 1 by weights that are several times too large.
        estimate_statistics(grown, objective)
        choose(draw.scores).switch_off_others(grown.candidates)
        return objective.scoring.mean(grown.graph_module)

    @torch.no_grad()
    def _apply(self, grown: OverGrown, draw: _Draw) -> None:
        """Switch every candidate on, in the directions of a draw."""
        grown.candidates.split_eps.fill_(self.eps)
        grown.candidates.new_eps.fill_(self.eps)
        for direction, values in zip(candidate_directions(grown), draw.directions, strict=True):
            direction.copy_(values)


def random_scores(like: Tensor, generator: torch.Generator) -> Tensor:
    """Scores that put candidates into a random order.

    Args:
        like: the eps of the candidates.
        generator: draws the scores.
    """
    # Drawn in float64, so that the order is the same whatever the model's dtype is.
    return torch.rand(len(like), generator=generator, dtype=torch.float64).to(like)
