"""Identity layers at random places, without a search.

Reference: Chen, Goodfellow, Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer", ICLR
2016, section 2.3 (Net2DeeperNet): a layer h = phi(V x) becomes h = phi(U phi(V x)) with U = I,
which changes nothing if phi(I phi(v)) = phi(v) for all v, as for a rectifier.

How we differ: an inserted layer is a residual one, x + C phi(W x), with random W and C = 0. It is
the identity for every phi, a GELU too, and needs no batch norm that undoes its own normalization;
C learns at once, since dL/dC = dL/dz phi(W x)^T is not 0, and W as soon as C is not 0. The layers
follow activations and residual sums, as all candidate layers of fxgrow do; which ones is drawn at
random, where the budget does not buy all of them (the paper leaves that to its user).
"""

import torch
from pydantic import Field

from fxgrow.coupling import Coupling
from fxgrow.documents import Pattern, Settings, limits
from fxgrow.growth import Objective, Proposal, Scores, SelectFunction
from fxgrow.methods.morphisms import draw_morphisms
from fxgrow.rewrite import DepthProposal, OverGrown


class Net2Deeper(Settings):
    """Identity layers in a random order of places, until the budget is spent.

    A layer gets all its neurons before the next one gets any; the last one may end narrower.

    Args:
        layers: neurons per layer; None: as many as the value has that the layer reads.
        at: patterns of nodes or modules after which layers may follow; with none, every activation
            and residual sum.
        norm: put a batch norm inside the layers.

    Example:
        >>> budget = fxgrow.Budget(neurons=64, layers=2)
        >>> fxgrow.grow(model, batches, loss_fn, method=Net2Deeper(), budget=budget)
    """

    layers: int | None = Field(default=None, ge=1, le=limits.CANDIDATES)
    at: tuple[Pattern, ...] = ()
    norm: bool = False

    @property
    def keeps_function(self) -> bool:
        """The loss stays what it is."""
        return True

    def propose(self, coupling: Coupling) -> Proposal:
        """Propose a layer at every place, and nothing in the widths that there are."""
        return Proposal(frozenset(), {}, DepthProposal(self.layers, self.at, norm=self.norm))

    def search(
        self,
        grown: OverGrown,
        objective: Objective,
        generator: torch.Generator,
        choose: SelectFunction,
    ) -> Scores:
        """Draw incoming weights, and an order of the layers."""
        return draw_morphisms(grown, objective, generator)

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Do nothing: training moves the new layers."""
