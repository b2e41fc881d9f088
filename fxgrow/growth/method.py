"""The Method protocol: all that the pipeline knows of Firefly and its rivals."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from fxgrow.coupling import Coupling
from fxgrow.growth.objective import Objective
from fxgrow.rewrite import DepthProposal, OverGrown

if TYPE_CHECKING:
    from fxgrow.growth.select import Selection


@dataclass(frozen=True)
class Proposal:
    """Which candidates there are: widths (by number) whose neurons may split, new neurons per width, and layers."""

    split: frozenset[int]
    new: dict[int, int]
    layers: DepthProposal | None = None


@dataclass(frozen=True)
class Scores:
    """How much each candidate is expected to lower the loss (higher is better), in the order of the eps vectors."""

    split: Tensor
    new: Tensor


SelectFunction = Callable[[Scores], "Selection"]
"""Which candidates the budget would keep of those scores; for methods that try out whole selections."""


class Method(Protocol):
    """One way to choose what to grow; a frozen pydantic model, so that the spec can record its settings."""

    def propose(self, coupling: Coupling) -> Proposal:
        """The candidates to put into the over-grown graph."""
        ...

    def search(
        self,
        grown: OverGrown,
        objective: Objective,
        generator: torch.Generator,
        choose: SelectFunction,
    ) -> Scores:
        """Set every candidate's eps and direction in ``grown`` and score it. Base parameters must not change."""
        ...

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Adapt the chosen candidates to each other; the others are off (eps = 0) and must stay off."""
        ...

    def model_dump(self, *, mode: str = "python") -> dict[str, Any]: ...
