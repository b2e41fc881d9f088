"""RCL: a controller learns by reinforcement how many filters a new task needs in every layer.

Reference: Xu, Zhu, "Reinforced Continual Learning", NeurIPS 2018, Sec. 3. An LSTM chooses for every layer in turn,
given its choice for the layer before, one of a set of numbers of new filters; the child is trained with all that is old
locked, and its reward is R = A - alpha * (filters added), A being its validation accuracy. The policy ascends
(R - b) grad log p, and the child with the best reward is kept. As theirs, the controller is a new one for every task.
How we differ: the baseline b is a running mean of rewards where the authors train a value network, which tens of
trials could not. An expansion sees growth batches alone, so every second one is held back from the children's training
and judges them; no validation image is looked at. Choices that a budget, which RCL has none of, cannot pay are ruled
out as they come up, and no child is trained twice. Children are trained briefly; the best one goes on afterwards.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam

from fxgrow.capture import capture
from fxgrow.continual.baselines.controller import AllowedOptions, Controller, OptionIndices
from fxgrow.continual.baselines.short_training import ShortTraining, own_entry_masks
from fxgrow.continual.expansion import ExpandedNetwork
from fxgrow.continual.head import find_head
from fxgrow.continual.reuse import maskable_widths
from fxgrow.coupling import Coupling, couple
from fxgrow.errors import DataError
from fxgrow.growth import (
    Budget,
    Objective,
    ResolvedBudget,
    emit,
    new_neuron_updates,
    resolve_budget,
)
from fxgrow.modes import evaluation_mode
from fxgrow.spec import StrictModel
from fxgrow.surgery import Change
from fxgrow.training import logits, seeded

_MAX_NEW = 64


class Rcl(StrictModel):
    """``alpha``, ``hidden`` and ``layers`` are those of the authors' code, which makes 50 trials of 15 epochs.

    ``options``: how many neurons a width may gain (theirs: 0 to 29); ``controller_rate``: of Adam; ``memory``: what
    the mean of rewards keeps at each trial; ``brief``: of each child; ``head``: its path (None: found in the graph).
    """

    brief: ShortTraining = ShortTraining()
    head: str | None = None
    options: tuple[int, ...] = Field(default=(0, 1, 2, 4, 8), min_length=2, max_length=_MAX_NEW)
    alpha: float = Field(default=1e-4, ge=0)
    trials: int = Field(default=16, ge=1)
    hidden: int = Field(default=100, ge=1)
    layers: int = Field(default=2, ge=1)
    controller_rate: float = Field(default=0.01, gt=0)
    memory: float = Field(default=0.8, ge=0, lt=1)

    def expand(
        self,
        network: nn.Module,
        inputs: Any,
        objective: Objective,
        budget: Budget,
        *,
        unlock: bool,
        seed: int,
    ) -> ExpandedNetwork:
        """The best child; ``unlock`` is ignored, as RCL leaves what is old alone.

        Raises ``BudgetError`` if no neuron can be paid for, ``DataError`` (``no-batches``) if there is none to hold
        back, ``GrowthError`` (``no-head``, ``nan-loss``).
        """
        train, judges = split_batches(objective)
        captured = capture(network, inputs)
        coupling = couple(captured)
        resolved = resolve_budget(budget, captured, coupling)
        head = find_head(captured, self.head)
        nursery = Trials(self, network, coupling, inputs, train, judges, head, resolved, seed)
        with evaluation_mode(network), seeded(seed):
            before = objective.mean(network)
            self.search(len(nursery.widths), nursery.allowed, nursery.reward)
            best = nursery.kept[0]
            new = {coupling.widths[n].name: count for n, count in best.counts.items()}
            return ExpandedNetwork(best.network, {}, new, before, objective.mean(best.network))

    def search(
        self, widths: int, allowed: AllowedOptions, reward: Callable[[OptionIndices], float]
    ) -> list[float]:
        """REINFORCE with a new controller, drawing from torch's own random numbers; the reward of every trial."""
        controller = Controller(self.options, self.hidden, self.layers)
        optimizer = Adam(controller.parameters(), lr=self.controller_rate)
        rewards: list[float] = []
        baseline = 0.0
        for _ in range(self.trials):
            choices, log_probability = controller(widths, allowed)
            rewards.append(reward(choices))
            # The first reward is its own baseline: nothing is known yet of what is good.
            baseline = (
                self.memory * baseline + (1 - self.memory) * rewards[-1]
                if rewards[1:]
                else rewards[-1]
            )
            optimizer.zero_grad()
            ((baseline - rewards[-1]) * log_probability).backward()
            optimizer.step()
        return rewards


@dataclass(frozen=True, eq=False)
class Trial:
    """A network with ``counts`` (per number of a width) new neurons, briefly trained, and its reward."""

    network: nn.Module
    counts: dict[int, int]
    reward: float


@dataclass(eq=False)
class Trials:
    """Makes, trains and judges children of ``parent``; all ``rewards``, and the best child alone is ``kept``."""

    settings: Rcl
    parent: nn.Module
    coupling: Coupling
    inputs: Any
    train: Objective
    judges: Objective
    head: str
    resolved: ResolvedBudget
    seed: int
    rewards: dict[OptionIndices, float] = field(default_factory=dict)
    kept: list[Trial] = field(default_factory=list)

    @property
    def widths(self) -> list[int]:
        """The numbers of the widths that may grow."""
        return maskable_widths(self.coupling)

    def allowed(self, choices: OptionIndices) -> list[bool]:
        """Which options for the next width the purse can pay beside ``choices``; none at all is always one."""
        number = self.widths[len(choices)]
        steps = {0, *accumulate(self.resolved.step_sizes((number,), max(self.settings.options)))}
        chosen = self.counts(choices)
        return [
            k == 0 or (k in steps and self.resolved.allows(chosen | {number: k}))
            for k in self.settings.options
        ]

    def counts(self, choices: OptionIndices) -> dict[int, int]:
        """What is added, by number of the width."""
        return {n: k for n, k in zip(self.widths, choices, strict=False) if k}

    def reward(self, choices: OptionIndices) -> float:
        """How right the child is on the judges, less ``alpha`` for every neuron that it has more."""
        if choices not in self.rewards:
            child = self.child(self.counts(choices))
            self.rewards[choices] = child.reward
            self.kept = sorted([*self.kept, child], key=lambda one: -one.reward)[:1]
        return self.rewards[choices]

    def child(self, counts: dict[int, int]) -> Trial:
        """A copy of the parent with those new neurons; they, its head and its normalisation are trained."""
        network, widths = copy.deepcopy(self.parent), self.coupling.widths
        spent = self.resolved.measured_cost(
            counts
        )  # what is measured can turn out to cost more than it seemed
        if counts and any(spent[limit.unit] > limit.limit for limit in self.resolved.limits):
            counts = {}
        changes = {n: Change((1,) * widths[n].size, count) for n, count in counts.items()}
        generator = torch.Generator().manual_seed(self.seed)
        emit(
            network,
            self.coupling,
            changes,
            new_neuron_updates(network, self.coupling, changes, generator),
        )
        new = {
            widths[n].name: torch.arange(widths[n].size + k) >= widths[n].size
            for n, k in counts.items()
        }
        free = own_entry_masks(network, couple(network, self.inputs), self.head, new)
        self.settings.brief.descend(network, self.train, free)
        return Trial(
            network,
            counts,
            accuracy_on_batches(network, self.judges) - self.settings.alpha * sum(counts.values()),
        )


def split_batches(objective: Objective) -> tuple[Objective, Objective]:
    """The batches that train and those that judge, every second one. Raises ``DataError`` for fewer than two."""
    if len(objective.batches) < 2:
        raise DataError(
            "no-batches",
            "one growth batch alone cannot both train children and judge them; give at least two (growth_batches=)",
        )
    train, judges = (replace(objective, batches=objective.batches[start::2]) for start in (0, 1))
    return train, judges


def accuracy_on_batches(network: nn.Module, judges: Objective) -> float:
    """The accuracy of ``network`` on all batches, whose images the loss counts as seen."""
    right: list[Tensor] = []

    def spy(output: Any, target: Tensor) -> Tensor:
        right.append(logits(output).argmax(1) == target)
        return judges.loss_fn(output, target)

    replace(judges, loss_fn=spy).mean(network)
    return float(torch.cat(right).double().mean())
