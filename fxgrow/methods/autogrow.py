"""One layer more per growth, at a random place.

Reference: Wen, Yan, Chen, Li, "AutoGrow: Automatic Layer Growing in Deep Convolutional Networks",
KDD 2020: a shallow network gets one sub-module more every K epochs, until the accuracy does not
improve any more (that stop is the trigger ``UntilNoGain`` of ``fxgrow.training``). A new sub-module
starts as the identity (their network morphism) or with random weights, which they find better.

How we differ:

- a sub-module is a residual layer x + C phi(W x); ``init`` sets C to 0, or draws it as torch draws
  the weights of a layer.
- no growth of fxgrow may raise the loss: where a random layer does, C is halved until it does not,
  and a layer that raises it however small it is, is left out (``accept_no_gain=True`` inserts it
  with C = 0). The paper lets the loss rise and trains on.
- theirs grow the sub-networks (between two poolings) in turn, each at its end, and stop growing
  them one by one; here the place is drawn from all, and the stop is one for all.
"""

from typing import Literal

import torch
from pydantic import Field

from fxgrow.coupling import Coupling
from fxgrow.documents import Pattern, Settings, limits
from fxgrow.growth import Objective, Proposal, Scores, SelectFunction, estimate_statistics
from fxgrow.methods.firefly.neighborhood import initialize, overgrown_layers
from fxgrow.methods.morphisms import draw_order
from fxgrow.methods.zero_outgoing import ON
from fxgrow.rewrite import DepthProposal, OverGrown


class AutoGrow(Settings):
    """One residual layer per growth, whatever the budget allows.

    Args:
        init: outgoing weights of the new layer: ``zero`` keeps the function, ``random`` does not.
        layers: neurons of the layer; None: as many as the value has that it reads.
        at: patterns of nodes or modules after which it may follow; with none, every activation and
            residual sum.
        norm: put a batch norm inside the layer.

    Example:
        >>> budget = fxgrow.Budget(neurons=64)
        >>> fxgrow.grow(model, batches, loss_fn, method=AutoGrow(), budget=budget)
    """

    init: Literal["zero", "random"] = "zero"
    layers: int | None = Field(default=None, ge=1, le=limits.CANDIDATES)
    at: tuple[Pattern, ...] = ()
    norm: bool = False

    @property
    def keeps_function(self) -> bool:
        """The loss stays what it is, if the new layer starts at zero."""
        return self.init == "zero"

    def propose(self, coupling: Coupling) -> Proposal:
        """Propose a layer at every place, of which one gets neurons."""
        # All places are candidates, but the selection stops after one (``most``).
        depth = DepthProposal(self.layers, self.at, norm=self.norm, most=1)
        return Proposal(frozenset(), {}, depth)

    def search(
        self,
        grown: OverGrown,
        objective: Objective,
        generator: torch.Generator,
        choose: SelectFunction,
    ) -> Scores:
        """Draw the weights, and the place."""
        initialize(grown, ON, generator)
        if self.init == "random":
            _draw_outgoing(grown, generator)
        # After the weights are drawn: statistics are those of what a batch norm reads.
        estimate_statistics(grown, objective)
        return draw_order(grown, generator)

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Do nothing: training moves the new layer."""


@torch.no_grad()
def _draw_outgoing(grown: OverGrown, generator: torch.Generator) -> None:
    """Draw the outgoing weights of new neurons with the variance that torch gives them.

    torch draws from +-1 / sqrt(fan in), so the variance is 1 / (3 fan in). The weights are in units
    of the layer (1 / sqrt(3) for one of zeros), so theirs is 1 / fan in.
    """
    for layer in overgrown_layers(grown):
        for outgoing in layer.outgoing:  # [out, new, ...]
            fan_in = outgoing[0].numel()
            dtype = torch.complex128 if outgoing.is_complex() else torch.float64
            noise = torch.randn(outgoing.shape, generator=generator, dtype=dtype)
            outgoing.copy_(noise / fan_in**0.5)
