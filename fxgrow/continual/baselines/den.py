"""DEN: retrain what the new head leads to, add neurons if that fails, split what moved too far.

Reference: Yoon, Yang, Lee, Hwang, "Lifelong Learning with Dynamically Expandable Networks",
ICLR 2018, Algorithms 1-4. Selective retraining: the new head with L1 (Eq. 3), the neurons that lead
to it breadth-first, their weights with L2 (Eq. 4). Expansion, if the loss is above ``tau``: k
neurons in every width, their incoming weights groups of a sparse norm (Eq. 5), without those whose
norm vanishes. Split: the neurons whose incoming weights moved further than ``sigma``.

How we differ: nothing earlier is ever retrained, so the retraining is that of a copy and only shows
what would drift: semantic drift decides on copies alone. What drifted too far becomes an unlocked
copy with the weights that it moved to, and all else goes back. A budget, which DEN has none of, is
spent on new neurons and splits in turn, largest norm and furthest move first; after that the loss
may be higher than before. All phases are short and see growth batches only; the network is trained
later. There is no L1 on new weights besides the groups, and there are no timestamps, for which the
master network has masks. The loss that ``tau`` judges is that of the retrained copy on the growth
batches with all that moved in it, which what the budget buys may not reach; where growth batches
are few and easily learned, nothing new is added.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from fxgrow.capture import capture
from fxgrow.continual.baselines.connectivity import connected_neurons, incoming_change
from fxgrow.continual.baselines.short_training import ShortTraining, own_entry_masks
from fxgrow.continual.baselines.sparsity import shrink_groups, soft_threshold, writer_weights
from fxgrow.continual.expansion import ExpandedNetwork
from fxgrow.continual.head import find_head
from fxgrow.continual.ownership import Masks, all_entries
from fxgrow.continual.reuse import maskable_widths, submodel
from fxgrow.coupling import Coupling, couple
from fxgrow.growth import (
    Budget,
    Objective,
    ResolvedBudget,
    Scores,
    emit,
    new_neuron_updates,
    resolve_budget,
    select,
)
from fxgrow.modes import evaluation_mode
from fxgrow.rewrite import Candidates
from fxgrow.spec import StrictModel
from fxgrow.surgery import Change, named_tensors


class Den(StrictModel):
    """An ``Expansion`` that follows DEN.

    ``new``, ``tau`` and ``sigma`` are those of the authors' code. ``l1`` and ``group`` are theirs
    (1e-5 and 1e-3) times 100, as they act over a hundredth of the steps.

    Args:
        brief: the short training of each phase.
        head: the path of the head; None: found in the graph.
        l1: the strength of the L1 norm on the new head.
        zero: connections below this share of their layer's strongest lead nowhere.
        tau: neurons are added if the loss after the retraining is above this.
        new: how many neurons are tried in every width.
        group: the strength of the norm on the weights into each new neuron.
        sigma: a neuron is unlocked if its incoming weights moved further than this.
    """

    brief: ShortTraining = ShortTraining(steps=40)
    head: str | None = None
    l1: float = Field(default=1e-3, ge=0)
    zero: float = Field(default=0.1, ge=0, lt=1)
    tau: float = 0.01
    new: int = Field(default=10, ge=1)
    group: float = Field(default=0.1, ge=0)
    sigma: float = Field(default=0.05, ge=0)

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
        """Expand a network; nothing is added if the loss is low enough and nothing drifts.

        Args:
            network: the network, which is changed.
            inputs: example inputs.
            objective: the loss and the growth batches.
            budget: what may be added; an unlocked neuron costs as much as a new one.
            unlock: whether old neurons may be unlocked.
            seed: decides the weights of new neurons.

        Returns:
            The wider network.

        Raises:
            BudgetError: if the budget pays for no neuron.
            GrowthError: ``no-head``, ``nan-loss``.
        """
        captured = capture(network, inputs)
        coupling = couple(captured)
        resolved = resolve_budget(budget, captured, coupling)
        head = find_head(captured, self.head)
        generator = torch.Generator().manual_seed(seed)
        run = DenExpansion(self, inputs, objective, head, generator)
        with evaluation_mode(network):
            before = objective.mean(network)
            # Nothing earlier may be retrained, so a copy is.
            retrained = copy.deepcopy(network)
            drift = run.retrain(retrained, coupling) if unlock else {}
            loss = objective.mean(retrained)
            # Only if retraining what is there leaves the loss too high.
            norms = run.grow(retrained, coupling) if loss > self.tau else {}
            unlocked, new = affordable_neurons(coupling, drift, norms, resolved)
            merged = run.merge(network, coupling, retrained, unlocked, new)
            counts = _counts(new)
            return ExpandedNetwork(merged, unlocked, counts, before, objective.mean(merged))


@dataclass(frozen=True, eq=False)
class DenExpansion:
    """The phases of one expansion.

    Args:
        settings: the settings of DEN.
        inputs: example inputs of the network.
        objective: the loss and the growth batches.
        head: the path of the head.
        generator: draws the weights of new neurons.
    """

    settings: Den
    inputs: Any
    objective: Objective
    head: str
    generator: torch.Generator

    def retrain(self, network: nn.Module, coupling: Coupling) -> dict[str, Tensor]:
        """Retrain selectively, in place: the head first, then what leads to it.

        Args:
            network: a copy of the network.
            coupling: its coupling.

        Returns:
            By name of the width, how far the weights into each neuron moved; 0 up to ``sigma``.
        """
        settings, parameters = self.settings, dict(network.named_parameters())
        head_weight = parameters[f"{self.head}.weight"]
        head = all_entries(parameters, self._head_names(parameters))

        def shrink(step: float) -> None:
            soft_threshold(head_weight, settings.l1 * step)

        # First the head alone, sparse, so that few neurons lead to it (Eq. 3).
        settings.brief.descend(network, self.objective, head, shrink)
        connected = connected_neurons(network, coupling, self.head, settings.zero)
        width_names = [coupling.widths[number].name for number in maskable_widths(coupling)]
        leading = {name: connected[name] for name in width_names}
        before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        free = writer_weights(coupling, parameters, leading) | head
        # Then all weights between neurons that lead to the head (Eq. 4).
        settings.brief.descend(network, self.objective, free)
        differences = {name: parameters[name] - tensor for name, tensor in before.items()}
        moved = incoming_change(coupling, differences)
        return {name: moved[name] * (moved[name] > settings.sigma) for name in width_names}

    def _head_names(self, parameters: Mapping[str, Tensor]) -> list[str]:
        return [name for name in parameters if name.rpartition(".")[0] == self.head]

    def grow(self, network: nn.Module, coupling: Coupling) -> dict[str, Tensor]:
        """Add neurons to every width and train them, in place.

        Args:
            network: the retrained copy.
            coupling: its coupling.

        Returns:
            By name of the width the norm of the weights into each new neuron; 0 if it vanished.
        """
        count = self.settings.new
        changes: dict[int, Change] = {}
        new: dict[str, Tensor] = {}
        for number in maskable_widths(coupling):
            width = coupling.widths[number]
            changes[number] = Change((1,) * width.size, count)
            # New neurons follow the old ones.
            new[width.name] = torch.arange(width.size + count) >= width.size
        updates = new_neuron_updates(network, coupling, changes, self.generator)
        emit(network, coupling, changes, updates)
        # The widths have grown, so their owners are found again.
        wider = couple(network, self.inputs)
        parameters = dict(network.named_parameters())
        own_entries = own_entry_masks(network, wider, self.head, new)
        free = {name: mask for name, mask in own_entries.items() if name in parameters}

        def shrink(step: float) -> None:
            shrink_groups(wider, parameters, new, self.settings.group * step)

        # Group sparsity drives the weights into useless neurons to exactly zero (Eq. 5).
        self.settings.brief.descend(network, self.objective, free, shrink)
        norms = incoming_change(wider, parameters)
        return {name: norm[new[name]] for name, norm in norms.items() if name in new}

    @torch.no_grad()
    def merge(
        self,
        network: nn.Module,
        coupling: Coupling,
        trained: nn.Module,
        unlocked: Masks,
        new: Masks,
    ) -> nn.Module:
        """Carry over what the budget buys; all else stays as it is.

        Args:
            network: the network, which is changed.
            coupling: its coupling.
            trained: the copy, with all neurons that were tried.
            unlocked: by name of a width, which of its old neurons are unlocked.
            new: by name of a width, which of the neurons that were tried are kept.

        Returns:
            The network; what is unlocked, new, or the task's own is as in ``trained``.
        """
        if new:
            trained = self._without_dropped(trained, coupling, new)
        counts = _counts(new)
        changes: dict[int, Change] = {}
        for number, width in enumerate(coupling.widths):
            if width.name in counts:
                changes[number] = Change((1,) * width.size, counts[width.name])
        emit(network, coupling, changes, {})
        is_new: dict[str, Tensor] = {}
        for name, mask in unlocked.items():
            # [old neurons, new neurons]
            is_new[name] = torch.cat([mask, mask.new_ones(counts.get(name, 0))])
        own_entries = own_entry_masks(network, couple(network, self.inputs), self.head, is_new)
        tensors, trained_tensors = named_tensors(network), named_tensors(trained)
        for name, mask in own_entries.items():
            # What is locked goes back to where it was: only marked entries are carried over.
            tensors[name].data = torch.where(mask, trained_tensors[name], tensors[name])
        return network

    def _without_dropped(self, trained: nn.Module, coupling: Coupling, new: Masks) -> nn.Module:
        """A copy without the neurons that were tried and not kept."""
        kept: dict[str, Tensor] = {}
        for name, mask in new.items():
            old = torch.ones(coupling.by_name[name].size, dtype=torch.bool)
            kept[name] = torch.cat([old, mask])
        return submodel(trained, couple(trained, self.inputs), kept)


def _counts(masks: Masks) -> dict[str, int]:
    """How many neurons each mask holds; widths with none are left out."""
    counts: dict[str, int] = {}
    for name, mask in masks.items():
        count = int(mask.sum())
        if count:
            counts[name] = count
    return counts


def affordable_neurons(
    coupling: Coupling,
    drift: Mapping[str, Tensor],
    norms: Mapping[str, Tensor],
    resolved: ResolvedBudget,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Choose the largest moves and norms that the budget pays for, both kinds in turn.

    Args:
        coupling: the coupling of the network.
        drift: by name of a width, how far each old neuron moved; 0: it stays locked.
        norms: by name of a width, the norm of each new neuron; 0: it is dropped.
        resolved: the budget.

    Returns:
        Which old neurons to unlock (for all widths), and which new ones to keep (for those of
        ``norms``), by name of the width.
    """
    unlocked: dict[str, Tensor] = {}
    for width in coupling.widths:
        unlocked[width.name] = torch.zeros(width.size, dtype=torch.bool)
    new = {name: torch.zeros_like(norm, dtype=torch.bool) for name, norm in norms.items()}
    moves, sizes = _nonzero_values(drift), _nonzero_values(norms)
    if not len(moves) + len(sizes):
        return unlocked, new
    moved_places = _nonzero_places(coupling, drift)
    new_places = _nonzero_places(coupling, norms)
    split_counts = {number: len(places) for number, places in moved_places.items()}
    new_counts = {number: len(places) for number, places in new_places.items()}
    # The budget chooses as it does in growth: unlocking counts as a split.
    candidates = Candidates(split_counts, new_counts, torch.empty(0))
    selection = select(Scores(_rank_scores(moves), _rank_scores(sizes)), candidates, resolved)
    for number, places in moved_places.items():
        bought = selection.split[candidates.split[number]]
        unlocked[coupling.widths[number].name][places[bought]] = True
    for number, places in new_places.items():
        bought = selection.new[candidates.new[number]]
        new[coupling.widths[number].name][places[bought]] = True
    return unlocked, new


def _nonzero_places(coupling: Coupling, values: Mapping[str, Tensor]) -> dict[int, Tensor]:
    """By number of the width, the neurons whose value is not zero."""
    numbers = coupling.number_of
    places: dict[int, Tensor] = {}
    for name, of_width in values.items():
        places[numbers[name]] = of_width.nonzero().reshape(-1)
    return places


def _nonzero_values(values: Mapping[str, Tensor]) -> Tensor:
    """The values above zero of all widths in a row."""
    positive = [of_width[of_width > 0] for of_width in values.values()]
    return torch.cat(positive) if positive else torch.empty(0)


def _rank_scores(values: Tensor) -> Tensor:
    """Scores by rank alone, 1, 1/2, 1/3 ...: a move and a norm cannot be compared."""
    # argsort of argsort is the rank: 0 for the largest value.
    ranks = values.argsort(descending=True, stable=True).argsort()
    return 1 / (1 + ranks.double())
