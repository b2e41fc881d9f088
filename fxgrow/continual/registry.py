"""Everything that is compared on a stream of tasks, one row each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import nn

from fxgrow.argument_checks import checked, checked_class
from fxgrow.argument_types import Fraction
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


@checked_class
@dataclass(frozen=True, eq=False)
class StrategySetup:
    """What every strategy of a comparison starts from; strategies copy the models.

    Args:
        thin: the network of those that grow.
        full: the network of those that cannot grow.
        example_inputs: inputs of both, as ``fxgrow.capture`` takes them.
        master: the settings of those that grow; their training is that of all.
        budget: what a strategy that grows neurons may add for every task.
        target: an accuracy on the validation images with which a task is done for them.

    Example:
        >>> setup = StrategySetup(vgg(8, 2), vgg(32, 2), images, MasterSettings(),
        ...                       Budget(neurons=16))
        >>> strategy = STRATEGIES["firefly"](setup)
    """

    thin: nn.Module
    full: nn.Module
    example_inputs: Any
    master: MasterSettings
    budget: Budget
    target: Fraction | None = None

    @checked
    def growing(self, expansion: Expansion) -> MasterStrategy:
        """Make a master network that gains neurons in a given way.

        Args:
            expansion: how neurons are chosen.

        Returns:
            The strategy.
        """
        return MasterStrategy(
            self.thin,
            self.example_inputs,
            settings=self.master,
            expansion=expansion,
            budget=self.budget,
            target=self.target,
        )


def _cpg(setup: StrategySetup) -> Strategy:
    return CompactPickGrow(setup.thin, setup.example_inputs, train=setup.master.train)


def _learn_to_grow(setup: StrategySetup) -> Strategy:
    return LearnToGrow(setup.thin, setup.example_inputs, train=setup.master.train)


def _individual(setup: StrategySetup) -> Strategy:
    return Individual(setup.full, setup.example_inputs, train=setup.master.train)


def _ewc(setup: StrategySetup) -> Strategy:
    return Ewc(setup.full, setup.example_inputs, train=setup.master.train)


def _fine_tuning(setup: StrategySetup) -> Strategy:
    return FineTuning(setup.full, setup.example_inputs, train=setup.master.train)


def _joint(setup: StrategySetup) -> Strategy:
    return Joint(setup.full, setup.example_inputs, train=setup.master.train)


STRATEGIES: Mapping[str, Callable[[StrategySetup], Strategy]] = MappingProxyType(
    {
        # These four are one master network; they differ in how neurons are chosen.
        "firefly": lambda setup: setup.growing(ScoredExpansion()),
        "random": lambda setup: setup.growing(ScoredExpansion(method=RandomGrowth(new=4))),
        "den": lambda setup: setup.growing(Den()),
        "rcl": lambda setup: setup.growing(Rcl()),
        # These two share weights in ways of their own.
        "cpg": _cpg,
        "learn-to-grow": _learn_to_grow,
        # These do not grow, so they get the full network.
        "individual": _individual,
        "ewc": _ewc,
        "fine-tuning": _fine_tuning,
        "joint": _joint,
    }
)
"""By name, how each strategy is made. "firefly" and "random" choose among the same candidates."""
