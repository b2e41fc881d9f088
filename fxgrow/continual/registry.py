"""Everything that is compared on a stream of tasks, one row each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import nn

from fxgrow.continual.baselines.compact_pick_grow import CompactPickGrow
from fxgrow.continual.baselines.den import Den
from fxgrow.continual.baselines.ewc import Ewc
from fxgrow.continual.baselines.fine_tuning import FineTuning
from fxgrow.continual.baselines.individual import Individual
from fxgrow.continual.baselines.joint import Joint
from fxgrow.continual.baselines.learn_to_grow import LearnToGrow
from fxgrow.continual.baselines.rcl import Rcl
from fxgrow.continual.expansion import Expansion, ScoredExpansion
from fxgrow.continual.master_strategy import MasterStrategy
from fxgrow.continual.strategy import Strategy
from fxgrow.continual.task_training import MasterSettings
from fxgrow.growth import Budget
from fxgrow.methods import RandomGrowth


@dataclass(frozen=True, eq=False)
class StrategySetup:
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

    def growing(self, expansion: Expansion) -> MasterStrategy:
        """A master network that gains neurons in that way."""
        return MasterStrategy(
            self.thin,
            self.example_inputs,
            settings=self.master,
            expansion=expansion,
            budget=self.budget,
            target=self.target,
        )


STRATEGIES: Mapping[str, Callable[[StrategySetup], Strategy]] = MappingProxyType(
    {
        "firefly": lambda setup: setup.growing(ScoredExpansion()),
        "random": lambda setup: setup.growing(ScoredExpansion(method=RandomGrowth(new=4))),
        "den": lambda setup: setup.growing(Den()),
        "rcl": lambda setup: setup.growing(Rcl()),
        "cpg": lambda setup: CompactPickGrow(
            setup.thin, setup.example_inputs, train=setup.master.train
        ),
        "learn-to-grow": lambda setup: LearnToGrow(
            setup.thin, setup.example_inputs, train=setup.master.train
        ),
        "individual": lambda setup: Individual(
            setup.full, setup.example_inputs, train=setup.master.train
        ),
        "ewc": lambda setup: Ewc(setup.full, setup.example_inputs, train=setup.master.train),
        "fine-tuning": lambda setup: FineTuning(
            setup.full, setup.example_inputs, train=setup.master.train
        ),
        "joint": lambda setup: Joint(setup.full, setup.example_inputs, train=setup.master.train),
    }
)
"""By name. "firefly" and "random" choose among the same candidates."""
