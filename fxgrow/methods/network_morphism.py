"""Random morphisms of the network that keep its function, without a search.

Reference: Wei, Wang, Rui, Chen, "Network Morphism", ICML 2016: a parent network becomes a child
that computes the same, by morphisms of depth (section 3.2: a layer G becomes two with F_2 * F_1 =
G), width (section 3.4: either what enters or what leaves the new channels is 0), kernel size
(section 3.4: zeros around the kernel) and subnets (section 3.5).

How we differ:

- *width*: what leaves new neurons is 0 and what enters is random (theirs may be the other way).
- *depth*: a residual layer x + C phi(W x) with C = 0 instead of the decomposition of a layer, so
  that no activation has to be made parametric to become the identity (their P-activations).
- *kernel size* is not there: a kernel's axes are no neurons, so no width, candidate or budget of
  fxgrow speaks of them, and with the kernel the padding of the module would have to grow.
- *subnets* are not there as such: several morphisms in one growth make one.
- the paper morphs by hand; here the morphisms are drawn at random, in a random order, until the
  budget is spent.
"""

import torch
from pydantic import Field, model_validator

from fxgrow.coupling import Coupling
from fxgrow.documents import Pattern, Settings, limits
from fxgrow.growth import Objective, Proposal, Scores, SelectFunction
from fxgrow.methods.morphisms import draw_morphisms, propose_morphisms
from fxgrow.rewrite import DepthProposal, OverGrown


class NetworkMorphism(Settings):
    """Widths and layers in a random order, until the budget is spent.

    Args:
        wider: by which share of its neurons a morphism widens a width; 1 doubles it.
        layers: neurons per layer; None: as many as the value has that the layer reads. 0 proposes
            no layers.
        at: patterns of nodes or modules after which layers may follow; with none, every activation
            and residual sum.
        norm: put a batch norm inside the layers.

    Example:
        >>> budget = fxgrow.Budget(parameters=0.5)
        >>> fxgrow.grow(model, batches, loss_fn, method=NetworkMorphism(), budget=budget)
    """

    wider: float = Field(default=1.0, gt=0, le=limits.WIDTH_FACTOR)
    layers: int | None = Field(default=None, ge=0, le=limits.CANDIDATES)
    at: tuple[Pattern, ...] = ()
    norm: bool = False

    @model_validator(mode="after")
    def _layers_use_their_settings(self) -> "NetworkMorphism":
        if self.layers == 0 and (self.at or self.norm):
            raise ValueError(
                "at and norm are about layers to insert, and layers=0 inserts none; give layers, "
                "or leave them out"
            )
        return self

    @property
    def keeps_function(self) -> bool:
        """The loss stays what it is."""
        return True

    def propose(self, coupling: Coupling) -> Proposal:
        """Propose every width and every layer."""
        depth = None
        if self.layers != 0:
            depth = DepthProposal(self.layers, self.at, norm=self.norm)
        return propose_morphisms(coupling, self.wider, depth)

    def search(
        self,
        grown: OverGrown,
        objective: Objective,
        generator: torch.Generator,
        choose: SelectFunction,
    ) -> Scores:
        """Draw incoming weights, and an order of the morphisms."""
        return draw_morphisms(grown, objective, generator)

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Do nothing: training moves what is new."""
