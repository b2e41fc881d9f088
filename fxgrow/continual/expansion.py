"""How a master network gains neurons for a new task.

Reference: Wu et al. 2020, Sec. 2.4: f(x) = sum_i sigma(x; theta_i + eps_i delta_i) + sum_j eps_j
sigma(x; delta_j). The first sum runs over old neurons (eps_i = 0: locked), the second over new
ones, and at most eta of all eps are not 0. The two steps of Sec. 2.2 choose which. Unlocking makes
one copy; the original stays for the earlier tasks.

How we differ: as in all growth here, eps and delta are in units of the layer's weights, and what
was selected is refined once more with the others off. The search and the checks are those of
``fxgrow.growth``; only the form of a split candidate differs (``PreparedModel.halves``). As in all
growth, each batch has one role: candidates are scored on batches that the search has not seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

from pydantic import BaseModel, SerializeAsAny
from torch import nn

from fxgrow.capture import capture
from fxgrow.continual.ownership import Masks
from fxgrow.continual.reuse import maskable_widths
from fxgrow.coupling import Coupling, couple
from fxgrow.errors import GrowthError
from fxgrow.growth import (
    BatchRoles,
    Budget,
    Method,
    Objective,
    PreparedModel,
    Proposal,
    SearchResult,
    assign_roles,
    emit_and_verify,
    full_precision,
    resolve_budget,
    search,
    with_candidates_for_budget,
)
from fxgrow.methods import Firefly
from fxgrow.modes import evaluation_mode, frozen_parameters
from fxgrow.spec import StrictModel


@dataclass(frozen=True, eq=False)
class ExpandedNetwork:
    """A wider network.

    Args:
        network: the network of the new task.
        unlocked: per width a mask over the neurons from before: the ones that were unlocked.
        new: per width how many new neurons follow them.
        loss_before: mean loss before, on the growth batches that candidates are scored on; None if
            nothing was searched.
        loss_after: the same afterwards.
        held_out_before: mean loss before, on growth batches that nothing was decided by; None if
            there are none.
        held_out_after: the same afterwards.
        batches: how many growth batches there were for each purpose; None if they were not divided.

    Example:
        >>> expanded = ScoredExpansion().expand(network, inputs, objective, budget, unlock=True,
        seed=0)
        >>> sum(expanded.new.values())
    """

    network: nn.Module
    unlocked: Masks = field(default_factory=dict)
    new: Mapping[str, int] = field(default_factory=dict)
    loss_before: float | None = None
    loss_after: float | None = None
    held_out_before: float | None = None
    held_out_after: float | None = None
    batches: BatchRoles | None = None


class Expansion(Protocol):
    """A way to choose what a task unlocks and adds; a frozen pydantic model.

    A property ``search_steps`` says how many steps it takes that each need a growth batch of their
    own, as that of a growth ``Method`` does.

    Example:
        >>> master = Master(model, inputs, expansion=ScoredExpansion(method=RandomGrowth(new=4)))
    """

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
        """Expand a network within a budget; an unlocked neuron costs as much as a new one.

        Args:
            network: the network; it may be changed.
            inputs: example inputs.
            objective: the loss on the growth batches.
            budget: how many neurons may be unlocked and added.
            unlock: whether old neurons may be unlocked.
            seed: of all random draws.

        Returns:
            The expanded network.
        """
        ...


class ScoredExpansion(StrictModel):
    """Expansion by a growth method: all candidates in one over-grown graph, the best are kept.

    Args:
        method: any growth method, such as Firefly descent or the control ``RandomGrowth``.

    Example:
        >>> ScoredExpansion(method=Firefly(new=8))
    """

    method: SerializeAsAny[BaseModel] = Firefly(new=4, steps=6, refine_steps=2, points=1)

    @property
    def search_steps(self) -> int:
        """Those of the method; 0 if it does not say."""
        return int(getattr(self.method, "search_steps", 0))

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
        """Unlock and add the neurons with the best scores; see ``Expansion.expand``.

        Raises:
            GrowthError: nothing can be unlocked or added (``no-candidates``).
            BudgetError: the budget buys nothing.
        """
        method = cast("Method", self.method)
        return expand_network(network, inputs, objective, budget, method, unlock=unlock, seed=seed)


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
    """Search, select and emit candidates of a method; the loss on the scored batches does not rise.

    Args:
        network: the network; it is changed in place.
        inputs: example inputs.
        objective: the loss on the growth batches, each of which gets one role
            (``growth.assign_roles``): searched on, scored on, or held out.
        budget: how many neurons may be unlocked and added.
        method: proposes, relaxes and scores the candidates.
        unlock: whether old neurons may be unlocked.
        seed: of all random draws.

    Returns:
        The expanded network.

    Raises:
        GrowthError: ``no-candidates``, or a failed check.
        BudgetError: the budget buys nothing.
    """
    objective, roles = assign_roles(objective, method)
    with frozen_parameters(network), evaluation_mode(network):
        captured = capture(network, inputs)
        coupling = couple(captured)
        proposal = _maskable_candidates(method.propose(coupling), coupling, unlock=unlock)
        if not proposal.split and not proposal.new:
            raise GrowthError(
                "no-candidates",
                "no neuron can be unlocked or added; see fxgrow inspect for the reasons",
            )
        prepared = PreparedModel(captured, coupling, proposal, halves=False)
        resolved = resolve_budget(budget, captured, coupling)
        prepared = with_candidates_for_budget(prepared, resolved)
        result = search(prepared, method, objective, resolved, seed=seed)
        held_out_before = _held_out_loss(network, objective)
        emission = emit_and_verify(prepared, result, objective)
        held_out_after = _held_out_loss(network, objective)
    unlocked, new = _selected_neurons(coupling, result)
    return ExpandedNetwork(
        network,
        unlocked,
        new,
        result.loss_before,
        emission.loss_after,
        held_out_before,
        held_out_after,
        roles,
    )


def _held_out_loss(network: nn.Module, objective: Objective) -> float:
    """The loss on the batches that nothing is decided by."""
    with full_precision():
        return objective.held_out.mean_or_nan(network)


def _maskable_candidates(proposal: Proposal, coupling: Coupling, *, unlock: bool) -> Proposal:
    """The proposed candidates in widths of which a task can use a part."""
    maskable = frozenset(maskable_widths(coupling))
    split = proposal.split & maskable if unlock else frozenset()
    new = {}
    for width, count in proposal.new.items():
        if width in maskable:
            new[width] = count
    return replace(proposal, split=split, new=new, layers=None)


def _selected_neurons(
    coupling: Coupling, result: SearchResult
) -> tuple[dict[str, Any], dict[str, int]]:
    """By name of the width: which neurons were unlocked, and how many are new."""
    candidates, selection = result.overgrown.candidates, result.selection
    unlocked = {}
    for width, places in candidates.split.items():
        unlocked[coupling.widths[width].name] = selection.split[places].cpu()
    new = {}
    for width, places in candidates.new.items():
        count = int(selection.new[places].sum())
        if count:
            new[coupling.widths[width].name] = count
    return unlocked, new
