"""The default method: a search where neurons are scarce, none where they are plentiful.

How many neurons the widths have that may grow, once the budget is spent on them, decides:

- up to ``SCARCE``: ``GradientPool``. Each neuron counts, training does not make up for a bad one,
  and a pool costs as much as a few training steps.
- more: ``ZeroOutgoing``. No choice between candidates was found to gain more than the training that
  its search would pay for.

Both keep the function. ``docs/when-to-grow.md`` has the experiments, those with Firefly descent
included, which moves candidates before it scores them.
"""

import torch

from fxgrow.coupling import Coupling
from fxgrow.documents import Settings
from fxgrow.growth import Objective, Picked, Proposal, Scores, SelectFunction
from fxgrow.methods.pool import GradientPool
from fxgrow.methods.zero_outgoing import ZeroOutgoing
from fxgrow.rewrite import OverGrown

SCARCE = 64
"""Neurons, of all widths that may grow together, up to which it pays to choose them."""

_CHOSEN = GradientPool()
_PLAIN = ZeroOutgoing()


class Auto(Settings):
    """Pick ``GradientPool`` or ``ZeroOutgoing`` by the number of neurons; a growth step does that.

    Asked for candidates itself, it is ``ZeroOutgoing``.

    Example:
        >>> fxgrow.grow(model, batches, loss_fn, method=Auto()).report.picked
        'Auto picked ZeroOutgoing: ...'
    """

    @property
    def keeps_function(self) -> bool:
        """The loss stays what it is, whichever it picks."""
        return True

    def pick(self, neurons: int) -> Picked:
        """Pick the method.

        Args:
            neurons: how many the widths that may grow have once the budget is spent on them.
        """
        if neurons <= SCARCE:
            why = f"the widths that grow have {SCARCE} neurons or fewer, so that each one counts"
            return Picked(_CHOSEN, f"Auto picked {type(_CHOSEN).__name__}: {why}")
        why = (
            f"with more than {SCARCE} neurons in the widths that grow no choice pays for its search"
        )
        return Picked(_PLAIN, f"Auto picked {type(_PLAIN).__name__}: {why}")

    def propose(self, coupling: Coupling) -> Proposal:
        """Propose what ``ZeroOutgoing`` proposes."""
        return _PLAIN.propose(coupling)

    def search(
        self,
        grown: OverGrown,
        objective: Objective,
        generator: torch.Generator,
        choose: SelectFunction,
    ) -> Scores:
        """Do what ``ZeroOutgoing`` does."""
        return _PLAIN.search(grown, objective, generator, choose)

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Do nothing."""
