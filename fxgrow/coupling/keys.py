"""How coupling refers to things: a width by its number, an axis by its parameter and dimension."""

from typing import NamedTuple, NewType

WidthId = NewType("WidthId", int)
"""The number of a width: its position in ``Coupling.widths``."""


class AxisKey(NamedTuple):
    """One axis of one parameter or buffer.

    It is a tuple, equal to the plain pair and with the same hash, so that a plain pair finds the
    entry of a mapping whose keys are ``AxisKey``.

    Args:
        parameter: name of the parameter or buffer in the user's own module.
        axis: the dimension, counted from 0.

    Example:
        >>> from fxgrow.coupling import AxisKey
        >>> AxisKey("conv.weight", 0) == ("conv.weight", 0)
        True
    """

    parameter: str
    axis: int


AnyAxisKey = AxisKey | tuple[str, int]
"""Key of a mapping that holds ``AxisKey`` and may be asked with a plain pair."""
