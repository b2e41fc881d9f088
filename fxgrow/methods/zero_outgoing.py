"""New neurons with outgoing weights of 0, without a search.

The model computes what it did, so nothing is lost, nothing needs a loss or a gradient, and the next
training steps find out what the new neurons are for: with z = W x + c h the output of a layer that
reads a new neuron h, the gradient of its outgoing weights c is dL/dz h, which is not 0 at c = 0.

Reference: the function-preserving initialization of Chen, Goodfellow, Shlens, "Net2Net", ICLR 2016,
and Evci et al., "GradMax", ICLR 2022, whose random control this is. How we differ: incoming weights
are random with the norm that the layer's own rows have, batch norms of new channels get the
statistics of the growth batches, and every width grows by the same share.
"""

import torch

from fxgrow.coupling import Coupling
from fxgrow.documents import Settings
from fxgrow.growth import Objective, Proposal, Scores, SelectFunction, estimate_statistics
from fxgrow.methods.firefly.neighborhood import initialize
from fxgrow.methods.proposals import propose_in_proportion
from fxgrow.rewrite import OverGrown

ON = 1.0
"""The eps of a candidate; outgoing weights of 0 keep the function whatever it is."""


class ZeroOutgoing(Settings):
    """New neurons in every width, in proportion to its size, with outgoing weights of 0.

    Example:
        >>> fxgrow.grow(model, batches, loss_fn, method=ZeroOutgoing()).report.widths
    """

    @property
    def keeps_function(self) -> bool:
        """The loss stays what it is."""
        return True

    @property
    def grows_under_norms(self) -> bool:
        """There it is the incoming weights that are 0, and outgoing ones are random."""
        return True

    def propose(self, coupling: Coupling) -> Proposal:
        """Propose as many new neurons as the budget buys, and no splits."""
        return propose_in_proportion(coupling)

    def search(
        self,
        grown: OverGrown,
        objective: Objective,
        generator: torch.Generator,
        choose: SelectFunction,
    ) -> Scores:
        """Draw incoming weights; all candidates are as good as each other."""
        initialize(grown, ON, generator)
        estimate_statistics(grown, objective)
        candidates = grown.candidates
        return Scores(torch.zeros(len(candidates.split_eps)), torch.ones(len(candidates.new_eps)))

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Do nothing: training moves the new neurons."""
