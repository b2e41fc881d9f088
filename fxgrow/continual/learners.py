"""Everything that is compared on a stream of tasks, one row each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import nn

from fxgrow.continual.expansion import Expansion, TwoSteps
from fxgrow.continual.growing import Growing
from fxgrow.continual.learner import Learner
from fxgrow.continual.learning import MasterSettings
from fxgrow.continual.rivals.den import Den
from fxgrow.continual.rivals.rcl import Rcl
from fxgrow.continual.settings import TrainSettings
from fxgrow.growth import Budget
from fxgrow.methods.random import RandomGrowth


@dataclass(frozen=True, eq=False)
class Setup:
    """What every learner starts from; it copies the models.

    ``thin`` is for those that grow, ``full`` for the others, which cannot; ``budget`` and ``target`` (an accuracy on
    validation images that ends the matter) are those of every task of a learner that grows.
    """

    thin: nn.Module
    full: nn.Module
    example_inputs: Any
    train: TrainSettings
    budget: Budget
    target: float | None = None

    def growing(self, expansion: Expansion) -> Growing:
        """A master network that gains neurons in that way."""
        return Growing(
            self.thin,
            self.example_inputs,
            settings=MasterSettings(train=self.train),
            expansion=expansion,
            budget=self.budget,
            target=self.target,
        )


LEARNERS: Mapping[str, Callable[[Setup], Learner]] = MappingProxyType(
    {
        "firefly": lambda setup: setup.growing(TwoSteps()),
        "random": lambda setup: setup.growing(TwoSteps(method=RandomGrowth(new=4))),
        "den": lambda setup: setup.growing(Den()),
        "rcl": lambda setup: setup.growing(Rcl()),
    }
)
"""By name. "firefly" and "random" choose among the same candidates."""
