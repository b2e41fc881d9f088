"""RCL: a controller learns by reinforcement how many filters a new task needs in every layer.

Reference: Xu, Zhu, "Reinforced Continual Learning", NeurIPS 2018, Sec. 3. An LSTM chooses for every
layer in turn, given its choice for the layer before, one of a set of numbers of new filters; the
child is trained with all that is old locked, and its reward is R = A - alpha * (filters added),
A being its validation accuracy. The policy ascends (R - b) grad log p, and the child with the best
reward is kept. As theirs, the controller is a new one for every task.

How we differ: the baseline b is a running mean of rewards where the authors train a value network,
which tens of trials could not. An expansion sees growth batches alone, so every second one is held
back from the children's training and judges them; no validation image is looked at. Choices that a
budget, which RCL has none of, cannot pay are ruled out as they come up, and no child is trained
twice. Children are trained briefly; the best one is trained further afterwards.
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

_MAX_OPTIONS = 64


class Rcl(StrictModel):
    """An ``Expansion`` that follows RCL.

    ``alpha``, ``hidden`` and ``layers`` are those of the authors' code, which makes 50 trials of 15
    epochs.

    Args:
        brief: the short training of each child.
        head: the path of the head; None: found in the graph.
        options: how many neurons a width may gain (the authors': 0 to 29).
        alpha: how much accuracy an added neuron must be worth.
        trials: how many choices are drawn.
        hidden: the size of the controller's state.
        layers: the layers of the controller.
        controller_rate: the learning rate of the controller (Adam).
        memory: the share of the running mean of rewards that each trial keeps.
    """

    brief: ShortTraining = ShortTraining()
    head: str | None = None
    options: tuple[int, ...] = Field(default=(0, 1, 2, 4, 8), min_length=2, max_length=_MAX_OPTIONS)
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
        """Expand a network into its best child.

        Args:
            network: the network, which stays as it is.
            inputs: example inputs.
            objective: the loss and the growth batches, at least two.
            budget: what may be added.
            unlock: ignored, as RCL leaves what is old alone.
            seed: decides the controller, what it draws, and the weights of new neurons.

        Returns:
            The best child.

        Raises:
            BudgetError: if the budget pays for no neuron.
            DataError: ``no-batches`` if there is no growth batch to hold back.
            GrowthError: ``no-head``, ``nan-loss``.
        """
        # Judging on batches that train would reward whatever overfits them best.
        train, judges = split_batches(objective)
        captured = capture(network, inputs)
        coupling = couple(captured)
        resolved = resolve_budget(budget, captured, coupling)
        head = find_head(captured, self.head)
        trials = Trials(self, network, coupling, inputs, train, judges, head, resolved, seed)
        with evaluation_mode(network), seeded(seed):
            before = objective.mean(network)
            self.search(len(trials.widths), trials.allowed, trials.reward)
            best = trials.kept[0]
            new = {coupling.widths[number].name: count for number, count in best.counts.items()}
            return ExpandedNetwork(best.network, {}, new, before, objective.mean(best.network))

    def search(
        self, widths: int, allowed: AllowedOptions, reward: Callable[[OptionIndices], float]
    ) -> list[float]:
        """Train a new controller by REINFORCE, drawing from torch's own random numbers.

        Args:
            widths: how many choices make a trial.
            allowed: which options a width has, given the choices before it.
            reward: of a trial's choices.

        Returns:
            The reward of every trial, in order.
        """
        controller = Controller(self.options, self.hidden, self.layers)
        optimizer = Adam(controller.parameters(), lr=self.controller_rate)
        rewards: list[float] = []
        baseline = 0.0
        for trial in range(self.trials):
            # One trial: a number of new neurons for every width.
            choices, log_probability = controller(widths, allowed)
            earned = reward(choices)
            rewards.append(earned)
            # The first reward is its own baseline: nothing is known yet of what is good.
            mean = self.memory * baseline + (1 - self.memory) * earned
            baseline = mean if trial else earned
            optimizer.zero_grad()
            # Descending (b - R) log p ascends (R - b) log p.
            ((baseline - earned) * log_probability).backward()
            optimizer.step()
        return rewards


@dataclass(frozen=True, eq=False)
class Trial:
    """A child: a network with new neurons, trained briefly.

    Args:
        network: the child.
        counts: by number of a width, how many new neurons it has.
        reward: its accuracy on the judging batches, less the price of its new neurons.
    """

    network: nn.Module
    counts: dict[int, int]
    reward: float


@dataclass(eq=False)
class Trials:
    """Makes, trains and judges the children of one network.

    Args:
        settings: the settings of RCL.
        parent: the network.
        coupling: its coupling.
        inputs: its example inputs.
        train: the growth batches that train children.
        judges: the growth batches that judge them.
        head: the path of the head.
        resolved: the budget.
        seed: decides the weights of new neurons, the same for all children.
        rewards: of all choices that were tried.
        kept: the best child so far, or none.
    """

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
        """Tell which options the budget pays for, for the width after those that are chosen.

        Args:
            choices: what the widths before it gain.

        Returns:
            One boolean per option; gaining nothing is always allowed.
        """
        number = self.widths[len(choices)]
        step_sizes = self.resolved.step_sizes((number,), max(self.settings.options))
        # Neurons are added in steps (rounding): other numbers cannot be reached.
        reachable = {0, *accumulate(step_sizes)}
        chosen = self.counts(choices)
        allowed: list[bool] = []
        for option in self.settings.options:
            affordable = option in reachable and self.resolved.allows(chosen | {number: option})
            allowed.append(option == 0 or affordable)
        return allowed

    def counts(self, choices: OptionIndices) -> dict[int, int]:
        """Tell how many neurons are added, by number of the width; widths without are left out."""
        pairs = zip(self.widths, choices, strict=False)
        return {number: count for number, count in pairs if count}

    def reward(self, choices: OptionIndices) -> float:
        """Make the child of these choices, unless it was made before, and keep it if it is best.

        Args:
            choices: what every width gains.

        Returns:
            Its reward.
        """
        if choices not in self.rewards:
            child = self.child(self.counts(choices))
            self.rewards[choices] = child.reward
            # Of equal rewards the earlier child stays.
            if not self.kept or child.reward > self.kept[0].reward:
                self.kept = [child]
        return self.rewards[choices]

    def child(self, counts: dict[int, int]) -> Trial:
        """Copy the parent, add neurons, and train them, the head and the normalizations.

        Args:
            counts: by number of a width, how many neurons it gains. If they turn out to cost more
                than the budget has, none is added.

        Returns:
            The child.
        """
        # Some costs (latency) are known only once they are measured.
        if counts and not self._really_allows(counts):
            counts = {}
        network = copy.deepcopy(self.parent)
        changes: dict[int, Change] = {}
        new: dict[str, Tensor] = {}
        for number, count in counts.items():
            width = self.coupling.widths[number]
            changes[number] = Change((1,) * width.size, count)
            new[width.name] = torch.arange(width.size + count) >= width.size
        # The same seed for every child: rewards differ by the counts, not by luck.
        generator = torch.Generator().manual_seed(self.seed)
        updates = new_neuron_updates(network, self.coupling, changes, generator)
        emit(network, self.coupling, changes, updates)
        free = own_entry_masks(network, couple(network, self.inputs), self.head, new)
        self.settings.brief.descend(network, self.train, free)
        price = self.settings.alpha * sum(counts.values())
        return Trial(network, counts, accuracy_on_batches(network, self.judges) - price)

    def _really_allows(self, counts: dict[int, int]) -> bool:
        """Whether the measured cost, which can be above the estimate, is within the budget."""
        spent = self.resolved.measured_cost(counts)
        return not any(spent[limit.unit] > limit.limit for limit in self.resolved.limits)


def split_batches(objective: Objective) -> tuple[Objective, Objective]:
    """Split the growth batches, every second one to each side.

    Args:
        objective: the loss and the growth batches.

    Returns:
        The batches that train, and those that judge.

    Raises:
        DataError: ``no-batches`` if there are fewer than two.
    """
    # Refused before anything is captured or trained.
    if len(objective.batches) < 2:
        raise DataError(
            "no-batches",
            "one growth batch alone cannot both train children and judge them; "
            "give at least two (growth_batches=)",
        )
    train = replace(objective, batches=objective.batches[0::2])
    judges = replace(objective, batches=objective.batches[1::2])
    return train, judges


def accuracy_on_batches(network: nn.Module, judges: Objective) -> float:
    """Measure the accuracy on growth batches; the loss is asked too, so it counts them as seen.

    Args:
        network: a classifier.
        judges: the loss and the batches.

    Returns:
        The share of images that are classified correctly.
    """
    correct: list[Tensor] = []

    def record(output: Any, target: Tensor) -> Tensor:
        correct.append(logits(output).argmax(1) == target)
        return judges.loss_fn(output, target)

    # The objective calls the loss on every batch in evaluation mode.
    replace(judges, loss_fn=record).mean(network)
    return float(torch.cat(correct).double().mean())
