"""Steps 1 to 7 of a growth step: the model with its candidates, and which of them are the best.

Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020, Algorithm 1,
steps 2 and 3.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn

from fxgrow.capture import capture, positional_inputs, preserve_attributes
from fxgrow.errors import GrowthError
from fxgrow.growth.batch_roles import BatchRoles, assign_roles
from fxgrow.growth.batches import outside_inference
from fxgrow.growth.budget import Budget, ResolvedBudget, resolve_budget
from fxgrow.growth.candidate_counts import neurons_after, with_candidates_for_budget
from fxgrow.growth.companions import require_no_layers
from fxgrow.growth.expressible import limit_to_config
from fxgrow.growth.invariants import MAX_BACKTRACKS, full_precision
from fxgrow.growth.method import Method, Picked, pick_method, proposal_of
from fxgrow.growth.objective import Objective
from fxgrow.growth.prepare import PreparedModel, couple_in_scope, prepare
from fxgrow.growth.report import Description, describe_if_possible
from fxgrow.growth.scope import Scope, resolve_ties
from fxgrow.growth.search import SearchLimits, SearchResult, search, search_nothing
from fxgrow.growth.statistics import (
    all_statistics,
    frozen_statistics,
    has_statistics,
    refresh_statistics,
)
from fxgrow.growth.step_options import StepOptions
from fxgrow.growth.timer import Timer
from fxgrow.modes import evaluation_mode, frozen_parameters


@dataclass(frozen=True, eq=False)
class ReadyModel:
    """A model before the search: steps 1 to 4 of a growth step.

    Args:
        before: its description.
        prepared: the model with its candidates.
        resolved: the budget.
        picked: the method, and why.
        everywhere: whether it was coupled without limits to what may grow.
    """

    before: Description
    prepared: PreparedModel
    resolved: ResolvedBudget
    picked: Picked
    everywhere: bool


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found in a model: steps 1 to 7 of a growth step.

    Args:
        inputs: positional arguments of the model.
        ready: the model with its candidates.
        objective: the loss, each growth batch in its role.
        roles: which batches serve what.
        stale: the held-out loss before the statistics of batch norms were refreshed; None if they
            were not.
        result: the candidates that were selected.
    """

    inputs: tuple[Any, ...]
    ready: ReadyModel
    objective: Objective
    roles: BatchRoles
    stale: float | None
    result: SearchResult


def search_model(
    work: nn.Module,
    objective: Objective,
    method: Method,
    budget: Budget,
    options: StepOptions,
    timer: Timer,
    *,
    nothing: bool = False,
) -> Found:
    """Search a model for what to grow; of the model only running statistics change.

    Args:
        work: the model.
        objective: the loss on all growth batches.
        method, budget, options: as for ``grow_step``.
        timer: takes the time of each phase.
        nothing: select nothing, without a search.

    Raises:
        FxgrowError: what ``grow_step`` raises before it emits, but ``gained-nothing``.
    """
    inputs = first_example_inputs(work, options.example_inputs, objective)
    kept_statistics = frozen_statistics(work)
    frozen = () if options.grow_frozen else frozen_names(work)
    with frozen_parameters(work), evaluation_mode(work):
        ready = make_ready(work, inputs, method, budget, options, frozen, timer)
        # Nothing of the model has changed so far; from here on its statistics may.
        prepared, picked = ready.prepared, ready.picked
        objective, roles = assign_roles(objective, picked.method)
        objective = replace(objective, on_step=timer.note_step)
        stale = None
        if options.refresh_statistics:
            stale = timer.run("statistics", _refresh, prepared, objective, kept_statistics)
        limits = SearchLimits(options.memory_limit, options.counts_costs)
        with preserve_attributes(work):  # hooks may keep what the search feeds to them
            if nothing:
                result = search_nothing(prepared, objective, ready.resolved)
            else:
                result = search(
                    prepared, picked.method, objective, ready.resolved, options.seed, limits, timer
                )
    return Found(inputs, ready, objective, roles, stale, result)


def make_ready(
    work: nn.Module,
    inputs: tuple[Any, ...],
    method: Method,
    budget: Budget,
    options: StepOptions,
    frozen: tuple[str, ...],
    timer: Timer,
) -> ReadyModel:
    """Capture, couple, prepare, and resolve the budget; the parameters are frozen meanwhile."""
    scope, more = options.scope, options.examples
    captured = timer.run("capture", capture, work, inputs)
    is_everywhere = not (scope.only or scope.ignore or frozen)
    coupling = timer.run("couple", couple_in_scope, captured, scope, more, frozen)
    widths, counts = coupling.widths if options.describe else None, options.counts_costs
    if scope.expressible:
        coupling, ties = timer.run("couple", limit_to_config, captured, coupling, method)
        scope = scope.model_copy(update={"tie": (*scope.tie, *ties)})
    before = timer.run("describe", describe_if_possible, captured, widths, counts)
    prepared = timer.run("prepare", prepare, captured, coupling, method, scope, more, frozen)
    resolved = timer.run("budget", absolute_budget, prepared, budget, scope)
    picked = pick_method(method, partial(neurons_after, prepared, resolved))
    prepared = _with_candidates(prepared, method, picked.method, resolved)
    require_no_layers(options.companions, prepared)
    return ReadyModel(before, prepared, resolved, picked, is_everywhere)


def _with_candidates(
    prepared: PreparedModel, asked: Method, picked: Method, budget: ResolvedBudget
) -> PreparedModel:
    """The model with as many candidates of the picked method as the budget can buy."""
    if picked is not asked:  # which proposes no layers, so nothing else depends on its proposal
        prepared = replace(prepared, proposal=proposal_of(picked, prepared.coupling))
    return with_candidates_for_budget(prepared, budget)


def absolute_budget(prepared: PreparedModel, budget: Budget, scope: Scope) -> ResolvedBudget:
    """Resolve the budget to absolute limits for this model."""
    coupling = prepared.coupling
    if not any(width.growable for width in coupling.widths):
        reasons = []
        for width in coupling.widths[:5]:
            if width.refusal:
                reasons.append(f"{width.name}: {width.refusal.reason}")
        listed = "; ".join(reasons)
        raise GrowthError("nothing-growable", f"no width of the model can grow ({listed})")
    ties = resolve_ties(coupling, scope.tie)
    resolved = resolve_budget(budget, prepared.captured, coupling, prepared.layers.keys(), ties)
    depth = prepared.proposal.layers
    if depth is None or depth.most is None:
        return resolved
    # A method may insert fewer layers at a time than the budget allows.
    allowed = depth.most if budget.layers is None else min(depth.most, budget.layers)
    return replace(resolved, max_layers=allowed)


def _refresh(prepared: PreparedModel, objective: Objective, frozen: frozenset[int]) -> float | None:
    """Refresh the statistics; the held-out loss before that, None if the model keeps none."""
    graph_module = prepared.captured.graph_module
    for layer in prepared.layers.values():  # blank, as their batch norms are to stay
        frozen |= all_statistics(graph_module.get_submodule(layer.path))
    if not has_statistics(graph_module, frozen):
        return None
    with full_precision(), preserve_attributes(prepared.captured.model):
        stale = objective.held_out.mean_or_nan(graph_module)
        refresh_statistics(graph_module, objective, frozen)
    return stale


def frozen_names(model: nn.Module) -> tuple[str, ...]:
    """The parameters that do not learn."""
    frozen = []
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if not parameter.requires_grad:
            frozen.append(name)
    return tuple(frozen)


def first_example_inputs(
    model: nn.Module, example_inputs: Any, objective: Objective
) -> tuple[Any, ...]:
    """The example inputs as positional arguments; those of the first batch if none are given."""
    if example_inputs is None:
        return objective.first_inputs
    return positional_inputs(model, outside_inference(example_inputs))


def require_gain(result: SearchResult) -> None:
    """Refuse a growth whose selected candidates all ended at eps = 0."""
    if result.has_gain:
        return
    halved = f" after halving eps {MAX_BACKTRACKS} times" if result.backtracks else ""
    raise GrowthError(
        "gained-nothing",
        f"gained nothing: no step of the selected candidates lowers the loss on growth batches "
        f"that were not searched on{halved}, so split neurons would be twins and new ones without "
        "effect; train longer, or ask for new neurons (new=), or accept it (accept_no_gain=True)",
    )
