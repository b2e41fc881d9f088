"""A growth step that was tried on copies, before it is kept or thrown away."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch.optim.swa_utils import AveragedModel

from fxgrow.growth import Batch, Growth


@dataclass(frozen=True, eq=False)
class Attempt:
    """A growth step that has been tried on copies.

    Args:
        batches: the growth batches.
        growth: what came of it; None if it gained nothing.
        average: the moving average, grown along; None if there is none.
        reason: why it is left out, if it is.
    """

    batches: Sequence[Batch]
    growth: Growth | None
    average: AveragedModel | None = None
    reason: str = ""
