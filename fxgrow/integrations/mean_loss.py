"""The training loss that a trigger reads: its mean since the model was last measured."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Amount
from fxgrow.errors import SpecError


class MeanLoss:
    """Mean of a training loss, which is saved with a training that stops within an epoch.

    Example:
        >>> loss = MeanLoss()
        >>> loss.add(2.0)
        >>> loss.add(1.0, count=3)
        >>> loss.take()
        1.25
    """

    def __init__(self) -> None:
        self._total: float | Tensor = 0.0
        self._count = 0

    @checked
    def add(self, loss: float | Tensor, count: Amount = 1) -> None:
        """Add a loss.

        Args:
            loss: a number, or a tensor of one, which stays on its device.
            count: of how many batches it is the mean.
        """
        # Added up where it is: asking a GPU for a number at every batch would make it wait.
        value = loss.detach().float() if isinstance(loss, Tensor) else loss
        self._total = self._total + value * count
        self._count += count

    def take(self) -> float:
        """The mean of what was added; NaN if nothing was. What is added next begins another one."""
        mean = float(self._total) / self._count if self._count else math.nan
        self._total, self._count = 0.0, 0
        return mean

    def state_dict(self) -> dict[str, Any]:
        """What was added since the last ``take``, as plain values."""
        return {"total": float(self._total), "count": self._count}

    @checked
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as another one would have done.

        Args:
            state: what its ``state_dict`` gave.

        Raises:
            SpecError: ``bad-value``: it holds something else.
        """
        total, count = state.get("total"), state.get("count")
        if not isinstance(total, float | int) or not isinstance(count, int) or count < 0:
            raise SpecError(
                "bad-value",
                f"a mean loss is saved as a total and a count, not as {total!r} and {count!r}; "
                "give another checkpoint",
            )
        self._total, self._count = float(total), count
