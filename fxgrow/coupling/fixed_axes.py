"""Axes of parameters and buffers that are in no width, each with the reason: nothing is silent."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

from torch import Tensor

from fxgrow.coupling.keys import AnyAxisKey, AxisKey
from fxgrow.coupling.labels import Bools, Ints
from fxgrow.coupling.values import Axis
from fxgrow.errors import Refusal

UNSEEN = Refusal(
    "unseen", "no operator that the example reaches reads, writes or carries neurons along it"
)
UNWRITTEN = Refusal(
    "unwritten", "constants begin it, and no layer and no learned parameter writes it"
)
NOT_FOLLOWED = Refusal("unseen", "it holds whole numbers, and those are not followed")


@dataclass(frozen=True)
class FixedAxis:
    """One axis of one parameter or buffer, some or all of whose indices are in no width.

    Args:
        parameter: name of the parameter or buffer in the user's own module.
        axis: the dimension.
        size: the number of its indices that are in no width; they keep their number.
        refusal: why.
    """

    parameter: str
    axis: int
    size: int
    refusal: Refusal

    @property
    def key(self) -> AxisKey:
        """(parameter, axis), as mappings over axes are keyed."""
        return AxisKey(self.parameter, self.axis)


def fixed_axes(
    axes: Sequence[Axis],
    owned: Mapping[AnyAxisKey, Bools],
    blamed: Callable[[Ints], Refusal | None],
    tensors: Mapping[str, Tensor],
    met: Set[AnyAxisKey],
) -> tuple[FixedAxis, ...]:
    """List the axes that are not in widths from end to end.

    Args:
        axes: all axes that were followed.
        owned: which indices of an axis are in a width; an axis that has no such index may be
            missing.
        blamed: the first refusal of some labels, if they have one.
        tensors: the parameters and buffers of the model by name.
        met: the axes that read or carry neurons, or write some.

    Returns:
        One entry per axis, in the order of ``axes``; then those that were not followed.
    """
    listed = []
    for axis in axes:
        labels = axis.labels
        if axis.key in owned:
            labels = labels[~owned[axis.key]]
        if len(labels):
            refusal = blamed(labels) or (UNWRITTEN if axis.key in met else UNSEEN)
            listed.append(FixedAxis(axis.parameter, axis.axis, len(labels), refusal))
    followed = {axis.parameter for axis in axes}
    for name, tensor in tensors.items():
        if name not in followed:
            for dim, size in enumerate(tensor.shape):
                listed.append(FixedAxis(name, dim, size, NOT_FOLLOWED))
    return tuple(listed)
