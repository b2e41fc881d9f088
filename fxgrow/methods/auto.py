"""The default method: a search where neurons are scarce, none where they are plentiful.

How many neurons the widths have that may grow, once the budget is spent on them, decides:

- up to ``SCARCE``: ``GradientPool``. Each neuron counts, and training does not make up for a bad
  one.
- more: ``ZeroOutgoing``. No choice between candidates was found to gain more than the training that
  its search would pay for.

Both keep the function. ``docs/when-to-grow.md`` has the experiments, those with Firefly descent
included, which moves candidates before it scores them.
"""

from fxgrow.growth import Picked
from fxgrow.methods.pool import GradientPool
from fxgrow.methods.zero_outgoing import ZeroOutgoing
from fxgrow.surgery import SCARCE


class Auto(ZeroOutgoing):
    """Pick ``GradientPool`` or ``ZeroOutgoing`` by the number of neurons; a growth step does that.

    Where nobody asks it to pick, it is ``ZeroOutgoing``.

    Example:
        >>> fxgrow.grow(model, batches, loss_fn, method=Auto()).report.picked
        'Auto picked ZeroOutgoing: ...'
    """

    def pick(self, neurons: int) -> Picked:
        """Pick the method.

        Args:
            neurons: how many the widths that may grow have once the budget is spent on them.
        """
        if neurons <= SCARCE:
            why = f"the widths that grow have {SCARCE} neurons or fewer, so that each one counts"
            return Picked(GradientPool(), f"Auto picked GradientPool: {why}")
        why = f"with more than {SCARCE} neurons in the widths that grow no search pays for itself"
        return Picked(ZeroOutgoing(), f"Auto picked ZeroOutgoing: {why}")
