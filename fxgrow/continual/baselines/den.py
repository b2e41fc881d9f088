"""DEN: retrain what the new head leads to, add neurons if that does not do, and split what moved too far.

Reference: Yoon, Yang, Lee, Hwang, "Lifelong Learning with Dynamically Expandable Networks", ICLR 2018, Algorithms 1-4.
Selective retraining: the new head with L1 (Eq. 3), the neurons that lead to it breadth-first, their weights with L2
(Eq. 4). Expansion, if the loss is above ``tau``: k neurons in every width, their incoming weights groups of a sparse
norm (Eq. 5), without those whose norm vanishes. Split: the neurons whose incoming weights moved further than ``sigma``.
How we differ: nothing earlier is ever retrained, so the retraining is that of a copy and only tells what would drift:
semantic drift decides on copies alone. What drifted too far becomes an unlocked copy with the weights that it moved to,
and all else goes back. A budget, which DEN has none of, is spent on new neurons and splits in turn, largest norm and
furthest move first; after that the loss may be higher than before. All phases are short and see growth batches only;
the whole is trained later. There is no L1 on new weights besides the groups, and there are no timestamps, for which the
master network has masks. The loss that ``tau`` judges is that of the whole retrained copy on the growth batches, which
what the budget buys of it may not reach; where growth batches are few and easily learnt, nothing new is added.
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
from fxgrow.continual.ownership import Masks
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
    """``brief``: of each phase; ``head``: its path (None: found in the graph).

    ``new``, ``tau`` and ``sigma`` are those of the authors' code. ``l1`` and ``group`` are theirs (1e-5 and 1e-3) times
    100, as they act over a hundredth of the steps. ``zero``: connections below this share of their layer's strongest
    lead nowhere.
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
        """Raises ``BudgetError`` if no neuron can be paid for, ``GrowthError`` (``no-head``, ``nan-loss``).

        Nothing is added if the loss is low enough and nothing drifts, or if group sparsity leaves no neuron.
        """
        captured = capture(network, inputs)
        coupling = couple(captured)
        purse = resolve_budget(budget, captured, coupling)
        run = DenExpansion(
            self,
            inputs,
            objective,
            find_head(captured, self.head),
            torch.Generator().manual_seed(seed),
        )
        with evaluation_mode(network):
            before = objective.mean(network)
            retrained = copy.deepcopy(network)
            drift = run.retrain(retrained, coupling) if unlock else {}
            loss = objective.mean(retrained)
            norms = run.grow(retrained, coupling) if loss > self.tau else {}
            unlocked, kept = reached_neurons(coupling, drift, norms, purse)
            found = run.merged(network, coupling, retrained, unlocked, kept)
            new = {name: count for name, mask in kept.items() if (count := int(mask.sum()))}
            return ExpandedNetwork(found, unlocked, new, before, objective.mean(found))


@dataclass(frozen=True, eq=False)
class DenExpansion:
    """One expansion going on."""

    settings: Den
    inputs: Any
    objective: Objective
    head: str
    generator: torch.Generator

    def retrain(self, network: nn.Module, coupling: Coupling) -> dict[str, Tensor]:
        """Selective retraining, in place; by width how far each neuron's incoming weights moved, 0 up to ``sigma``."""
        brief, own = self.settings.brief, dict(network.named_parameters())
        weight = own[f"{self.head}.weight"]
        head = {
            name: torch.ones_like(p, dtype=torch.bool)
            for name, p in own.items()
            if name.rpartition(".")[0] == self.head
        }
        brief.descend(
            network,
            self.objective,
            head,
            lambda step: soft_threshold(weight, self.settings.l1 * step),
        )
        found = connected_neurons(network, coupling, self.head, self.settings.zero)
        able = [coupling.widths[n].name for n in maskable_widths(coupling)]
        leading = {name: found[name] for name in able}
        before = {name: parameter.detach().clone() for name, parameter in own.items()}
        brief.descend(network, self.objective, writer_weights(coupling, own, leading) | head)
        moved = incoming_change(
            coupling, {name: own[name] - tensor for name, tensor in before.items()}
        )
        return {name: moved[name] * (moved[name] > self.settings.sigma) for name in able}

    def grow(self, network: nn.Module, coupling: Coupling) -> dict[str, Tensor]:
        """Dynamic expansion, in place; by width the norm of each new neuron's incoming weights."""
        more = self.settings.new
        sizes = {n: coupling.widths[n].size for n in maskable_widths(coupling)}
        changes = {n: Change((1,) * size, more) for n, size in sizes.items()}
        emit(
            network,
            coupling,
            changes,
            new_neuron_updates(network, coupling, changes, self.generator),
        )
        wider = couple(network, self.inputs)
        new = {
            coupling.widths[n].name: torch.arange(size + more) >= size for n, size in sizes.items()
        }
        own = dict(network.named_parameters())
        free = {
            name: m
            for name, m in own_entry_masks(network, wider, self.head, new).items()
            if name in own
        }

        def shrink(step: float) -> None:
            shrink_groups(wider, own, new, self.settings.group * step)

        self.settings.brief.descend(network, self.objective, free, shrink)
        return {
            name: norms[new[name]]
            for name, norms in incoming_change(wider, own).items()
            if name in new
        }

    @torch.no_grad()
    def merged(
        self,
        network: nn.Module,
        coupling: Coupling,
        trained: nn.Module,
        unlocked: Masks,
        kept: Masks,
    ) -> nn.Module:
        """``network`` with the new neurons that are ``kept``; what is unlocked, new or private is as in ``trained``."""
        if kept:
            old = {name: torch.ones(coupling.by_name[name].size, dtype=torch.bool) for name in kept}
            trained = submodel(
                trained,
                couple(trained, self.inputs),
                {name: torch.cat([old[name], mask]) for name, mask in kept.items()},
            )
        counts = {
            n: int(kept[w.name].sum()) for n, w in enumerate(coupling.widths) if w.name in kept
        }
        changes = {
            n: Change((1,) * coupling.widths[n].size, count) for n, count in counts.items() if count
        }
        emit(network, coupling, changes, {})
        new = {
            name: torch.cat([mask, mask.new_ones(_count(kept, name))])
            for name, mask in unlocked.items()
        }
        theirs, held = named_tensors(trained), named_tensors(network)
        for name, mask in own_entry_masks(
            network, couple(network, self.inputs), self.head, new
        ).items():
            held[name].data = torch.where(mask, theirs[name], held[name])
        return network


def _count(kept: Masks, name: str) -> int:
    return int(kept[name].sum()) if name in kept else 0


def reached_neurons(
    coupling: Coupling,
    drift: Mapping[str, Tensor],
    norms: Mapping[str, Tensor],
    purse: ResolvedBudget,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Which old neurons to unlock and which new ones to keep: the largest that the purse buys, both kinds in turn."""
    numbers = {width.name: number for number, width in enumerate(coupling.widths)}
    places = [
        {numbers[name]: v.nonzero().reshape(-1) for name, v in kind.items()}
        for kind in (drift, norms)
    ]
    values = [
        torch.cat([v[v > 0] for v in kind.values()] or [torch.empty(0)]) for kind in (drift, norms)
    ]
    unlocked = {
        name: torch.zeros(width.size, dtype=torch.bool) for name, width in coupling.by_name.items()
    }
    kept = {name: torch.zeros_like(v, dtype=torch.bool) for name, v in norms.items()}
    if not sum(map(len, values)):
        return unlocked, kept
    splits, more = ({n: len(found) for n, found in kind.items()} for kind in places)
    candidates = Candidates(splits, more, torch.empty(0))
    selection = select(Scores(*map(_in_turn, values)), candidates, purse)
    for masks, kind, slices, bought in zip(
        (unlocked, kept),
        places,
        (candidates.split, candidates.new),
        (selection.split, selection.new),
        strict=True,
    ):
        for number, found in kind.items():
            masks[coupling.widths[number].name][found[bought[slices[number]]]] = True
    return unlocked, kept


def _in_turn(values: Tensor) -> Tensor:
    """Scores by rank alone, since a move and a norm cannot be compared."""
    return 1 / (1 + values.argsort(descending=True, stable=True).argsort().double())
