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
from fxgrow.continual.rivals.compact_pick_grow import CompactPickGrow
from fxgrow.continual.rivals.den import Den
from fxgrow.continual.rivals.ewc import Ewc
from fxgrow.continual.rivals.fine_tuning import FineTuning
from fxgrow.continual.rivals.individual import Individual
from fxgrow.continual.rivals.joint import Joint
from fxgrow.continual.rivals.learn_to_grow import LearnToGrow
from fxgrow.continual.rivals.rcl import Rcl
from fxgrow.growth import Budget
from fxgrow.methods.random import RandomGrowth


@dataclass(frozen=True, eq=False)
class Setup:
    """What every learner starts from; it copies the models.

    ``thin`` is for those that grow, ``full`` for the others, which cannot. ``master``: the settings of those that grow,
    whose training is that of all; ``budget`` and ``target`` (an accuracy on validation images that ends the matter) are
    those of every task of a learner that grows neurons.
    """

    thin: nn.Module
    full: nn.Module
    example_inputs: Any
    master: MasterSettings
    budget: Budget
    target: float | None = None

    def growing(self, expansion: Expansion) -> Growing:
        """A master network that gains neurons in that way."""
        return Growing(
            self.thin,
            self.example_inputs,
            settings=self.master,
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
        "cpg": lambda setup: CompactPickGrow(setup.thin, setup.example_inputs, train=setup.master.train),
        "learn-to-grow": lambda setup: LearnToGrow(setup.thin, setup.example_inputs, train=setup.master.train),
        "individual": lambda setup: Individual(setup.full, setup.example_inputs, train=setup.master.train),
        "ewc": lambda setup: Ewc(setup.full, setup.example_inputs, train=setup.master.train),
        "fine-tuning": lambda setup: FineTuning(setup.full, setup.example_inputs, train=setup.master.train),
        "joint": lambda setup: Joint(setup.full, setup.example_inputs, train=setup.master.train),
    }
)
"""By name. "firefly" and "random" choose among the same candidates."""
