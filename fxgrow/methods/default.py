"""The method that grows a model if the caller names none."""

from fxgrow.argument_checks import checked
from fxgrow.growth import Method, Scope
from fxgrow.methods.auto import Auto
from fxgrow.methods.firefly import Firefly


@checked
def default_method(scope: Scope) -> Method:
    """The default method.

    Args:
        scope: what may grow.

    Returns:
        ``Auto()``; where blocks may grow ``Firefly()``, as the scores of ``Auto`` are in no units
        in which blocks could be compared with its neurons.
    """
    return Firefly() if scope.blocks else Auto()
