"""How a width under norms grows, by axis and number: ``norm_rules`` finds it, growth does it."""

from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor

from fxgrow.coupling.keys import AxisKey


class Fill(StrEnum):
    """What the new entries of an axis are."""

    ZERO = "0"
    MEAN = "the mean of the old entries"
    WEIGHTED_MEAN = "the mean of the old entries, each times what scales it"
    RANDOM = "random, since what they read is 0"
    ONE = "1, since the mean of the old ones is in what it scales"
    TYPICAL = "as large as the old entries, since what they scale is 0"


@dataclass(frozen=True)
class ScaledNumber:
    """A number that a module holds, and that follows a width under norms: the eps of a norm.

    Args:
        module: the path of the module.
        name: the attribute.
        power: it is multiplied by sqrt(d' / d) to this power.
    """

    module: str
    name: str
    power: int


WRITTEN_FILLS = frozenset({Fill.ZERO, Fill.MEAN, Fill.WEIGHTED_MEAN})
"""Of an axis that writes neurons: what they are before they are anything of their own."""


@dataclass(frozen=True)
class SiteRule:
    """How one axis grows.

    Args:
        key: the axis.
        power: its old entries are multiplied by sqrt(d' / d) to this power.
        fill: what its new entries are.
        weights: of a weighted mean the axis of the parameter that scales.
        offset: what is added to the parameter before it is used (1 of ``1 + gamma``): their sum is
            what is multiplied.
    """

    key: AxisKey
    power: int
    fill: Fill
    weights: AxisKey | None = None
    offset: float = 0.0

    def typical(self, old: Tensor) -> Tensor:
        """One entry along the axis, as large as the old entries are as they are used."""
        used = old.double() + self.offset  # a mean in half precision loses digits
        root = used.square().mean(self.key.axis, keepdim=True).sqrt()
        return (root - self.offset).to(old.dtype)

    def beyond_mean(self, old: Tensor, count: int) -> Tensor:
        """New entries before a mean is added to them, where nothing else is known of them.

        Args:
            old: the parameter before it grows.
            count: how many entries.
        """
        shape = list(old.shape)
        shape[self.key.axis] = count
        if self.fill is Fill.TYPICAL:
            return self.typical(old).expand(shape).contiguous()
        return old.new_full(shape, float(self.fill is Fill.ONE))
