"""How a master network gains neurons for a new task: locked, unlocked and new neurons are candidates of one selection.

Reference: Wu et al. 2020, Sec. 2.4: f(x) = sum_i sigma(x; theta_i + eps_i delta_i) + sum_j eps_j sigma(x; delta_j), the
first sum over old neurons (eps_i = 0: locked), the second over new ones, with at most eta of all eps not 0. The two
steps of Sec. 2.2 choose which. Unlocking makes one copy; the original stays for the earlier tasks.
How we differ: as in all growth here, eps and delta are in units of the layer's weights, and what was selected is
refined once more with the others off.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

from fxgrow.capture import Captured, capture
from fxgrow.continual.ownership import Masks
from fxgrow.continual.reuse import maskable_widths
from fxgrow.coupling import Coupling, change_maps, couple
from fxgrow.errors import GrowthError
from fxgrow.growth import (
    Budget,
    Method,
    Objective,
    Selection,
    backtrack,
    emit,
    estimate_statistics,
    full_precision,
    parameter_updates,
    require_close,
    resolve_budget,
    select,
)
from fxgrow.methods import Firefly, RandomGrowth
from fxgrow.modes import evaluation_mode
from fxgrow.rewrite import OverGrown, overgrow
from fxgrow.spec import StrictModel
from fxgrow.surgery import Change, apply_maps, named_tensors


@dataclass(frozen=True, eq=False)
class ExpandedNetwork:
    """A wider network. ``unlocked[width]``: which of the neurons from before; ``new[width]``: how many follow them."""

    network: nn.Module
    unlocked: Masks = field(default_factory=dict)
    new: Mapping[str, int] = field(default_factory=dict)
    loss_before: float | None = None
    loss_after: float | None = None


class Expansion(Protocol):
    """A way to choose what a task unlocks and adds; a frozen pydantic model."""

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
        """Expand ``network``, which may be changed, within ``budget``; an unlocked neuron costs as much as a new one.

        ``inputs``: example inputs; ``unlock``: whether old neurons may be unlocked.
        """
        ...


class ScoredExpansion(StrictModel):
    """A growth method over one graph that holds all candidates: Firefly, or the control ``RandomGrowth``."""

    method: Firefly | RandomGrowth = Firefly(new=4, steps=6, refine_steps=2, points=1)

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
        """The candidates with the best scores. Raises ``GrowthError`` or ``BudgetError`` if nothing can grow."""
        return expand_network(
            network, inputs, objective, budget, self.method, unlock=unlock, seed=seed
        )


def expand_network(
    network: nn.Module,
    inputs: Any,
    objective: Objective,
    budget: Budget,
    method: Method,
    *,
    unlock: bool,
    seed: int,
) -> ExpandedNetwork:
    """Search, select, refine and emit the candidates of ``method``; the loss on the growth batches does not rise."""
    learning = {parameter: parameter.requires_grad for parameter in network.parameters()}
    network.requires_grad_(requires_grad=False)
    with evaluation_mode(network):
        captured = capture(network, inputs)
        coupling = couple(captured)
        chosen = _choose(captured, coupling, objective, budget, method, unlock, seed)
        with full_precision():
            expanded = _emitted(captured, coupling, objective, chosen)
    for parameter, flag in learning.items():
        parameter.requires_grad_(flag)
    return expanded


@dataclass(frozen=True, eq=False)
class _Chosen:
    grown: OverGrown
    selection: Selection
    before: float


def _choose(
    captured: Captured,
    coupling: Coupling,
    objective: Objective,
    budget: Budget,
    method: Method,
    unlock: bool,
    seed: int,
) -> _Chosen:
    generator = torch.Generator().manual_seed(seed)
    able = frozenset(maskable_widths(coupling))
    proposed = method.propose(coupling)
    split = proposed.split & able if unlock else frozenset()
    new = {width: count for width, count in proposed.new.items() if width in able}
    grown = overgrow(captured, coupling, split, new, generator, halves=False)
    if not grown.candidates.split and not grown.candidates.new:
        raise GrowthError(
            "no-candidates",
            "no neuron can be unlocked or added; see fxgrow inspect for the reasons",
        )
    resolved = resolve_budget(budget, captured, coupling)
    with full_precision():
        before = objective.mean(captured.graph_module)
    scores = method.search(
        grown, objective, generator, partial(select, candidates=grown.candidates, resolved=resolved)
    )
    selection = select(scores, grown.candidates, resolved)
    selection.switch_off_others(grown.candidates)
    method.refine(grown, objective)
    with full_precision():
        backtrack(grown, objective, before)
    estimate_statistics(grown, objective, preserving=True)
    return _Chosen(grown, selection, before)


@torch.no_grad()
def _emitted(
    captured: Captured, coupling: Coupling, objective: Objective, chosen: _Chosen
) -> ExpandedNetwork:
    """Carry the selection out on the network, and see that it says what the over-grown graph says."""
    candidates, selection, network = chosen.grown.candidates, chosen.selection, captured.model
    expected = objective.output(chosen.grown.graph_module)
    names = [width.name for width in coupling.widths]
    new = {
        n: count
        for n, places in candidates.new.items()
        if (count := int(selection.new[places].sum()))
    }
    unlocked = {names[n]: selection.split[places].cpu() for n, places in candidates.split.items()}
    changes = {n: Change((1,) * coupling.widths[n].size, count) for n, count in new.items()}
    fillings = parameter_updates(coupling, chosen.grown, selection)
    emit(network, coupling, changes, fillings)
    maps = change_maps(coupling, changes)
    held = named_tensors(network)
    for name, filling in fillings.items():
        axes = {axis: index_map for (of, axis), index_map in maps.items() if of == name}
        for delta in filling.delta.values():
            held[name].data += apply_maps(delta, axes, scaled=False)
    require_close("faithful to the over-grown graph", objective.output(network), expected)
    return ExpandedNetwork(
        network,
        unlocked,
        {names[n]: count for n, count in new.items()},
        chosen.before,
        objective.mean(network),
    )
