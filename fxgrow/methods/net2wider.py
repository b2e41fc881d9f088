"""Net2WiderNet: copies of neurons chosen at random, which share the outgoing weights.

Reference: Chen, Goodfellow, Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer", ICLR
2016, section 3.1, Eqs. 3 to 5. A neuron that occurs n times has the incoming weights of the old one
n times, and its outgoing weights divided by n, so the function stays as it is.

How we differ: a neuron is copied at most once in a growth step (the paper draws with replacement),
so one step doubles a width at most; ``fxgrow.widen(how="split")`` goes further. The paper adds
noise to the weights, which changes the function; here the outgoing weights of two copies differ by
+-r, which keeps it (``growth.emit.part_twins``), as ``widen`` does.
"""

import torch

from fxgrow.coupling import Coupling
from fxgrow.documents import Settings
from fxgrow.growth import Objective, Proposal, Scores, SelectFunction
from fxgrow.methods.proposals import propose_splits
from fxgrow.methods.random import random_scores
from fxgrow.methods.zero_outgoing import ON
from fxgrow.rewrite import OverGrown


class Net2Wider(Settings):
    """Random copies of neurons, without a search.

    Example:
        >>> fxgrow.grow(model, batches, loss_fn, example_inputs=inputs, method=Net2Wider())
    """

    @property
    def keeps_function(self) -> bool:
        """The loss stays what it is."""
        return True

    def propose(self, coupling: Coupling) -> Proposal:
        """Propose that every growable neuron may be copied; there are no new neurons."""
        return propose_splits(coupling)

    def search(
        self,
        grown: OverGrown,
        objective: Objective,
        generator: torch.Generator,
        choose: SelectFunction,
    ) -> Scores:
        """Draw which neurons are copied; their directions stay 0."""
        candidates = grown.candidates
        # On, with directions of 0: twins, which emission parts by noise that sums to 0.
        with torch.no_grad():
            candidates.split_eps.fill_(ON)
        split = random_scores(candidates.split_eps, generator)
        return Scores(split, candidates.new_eps.detach())

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Do nothing: training parts the copies."""
