"""One growth step, the compiler's table of contents (DESIGN; Wu et al. 2020, Algorithm 1, steps 2 and 3).

capture -> couple -> over-grow -> relax and score (the method's search) -> select -> refine -> descend -> emit and
verify -> spec
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from fxgrow.capture import capture, positional_inputs
from fxgrow.coupling import Coupling, couple
from fxgrow.errors import GrowthError
from fxgrow.growth.budget import Budget, ResolvedBudget, resolve_budget
from fxgrow.growth.emit import emit
from fxgrow.growth.invariants import backtrack, full_precision, require_close
from fxgrow.growth.materialize import parameter_updates, width_changes
from fxgrow.growth.method import Method
from fxgrow.growth.objective import Batch, LossFunction, Objective
from fxgrow.growth.partition import search_and_select, search_groups
from fxgrow.growth.plan import budget_plan
from fxgrow.growth.prepare import PreparedModel, prepare, remove_unused_layers
from fxgrow.growth.report import (
    Choice,
    Emission,
    FinishedStep,
    describe_if_possible,
    without_description,
)
from fxgrow.growth.result import Growth, Timer, graph_text
from fxgrow.growth.scope import ALL_WIDTHS, Scope
from fxgrow.growth.statistics import BatchNormGap, batch_statistics_gap, estimate_statistics
from fxgrow.growth.ties import require_equal_candidates, resolve_ties
from fxgrow.modes import evaluation_mode
from fxgrow.rewrite import OverGrown, overgrow
from fxgrow.spec import GrowthStep, multiply_adds
from fxgrow.surgery import parameter_shapes, restore_on_failure, update_config


def grow_step(
    model: nn.Module,
    batches: Iterable[Batch],
    loss_fn: LossFunction,
    *,
    example_inputs: Any,
    method: Method,
    budget: Budget,
    optimizer: Optimizer | None = None,
    seed: int = 0,
    history: Sequence[GrowthStep] = (),
    inplace: bool = False,
    memory_limit: float | None = None,
    scope: Scope = ALL_WIDTHS,
    describe: bool = True,
) -> Growth:
    """Grow a copy of ``model`` by ``method`` within ``budget``; the caller's model and optimiser are left as they are.

    ``batches``: (input, target) pairs, a few tens at most; ``loss(output, target)``: a scalar. Inputs, and
    ``example_inputs``, are a tensor, a tuple of arguments or a dict of keyword arguments of the model. ``inplace``: the
    model and optimiser themselves grow, unless something fails. The grown module is of the model's own class; if the
    method proposes layers, which no forward of the user's calls, it is a graph module of the model's modules and the
    new ones. ``memory``: bytes that a step over an over-grown graph may keep (None: any); candidates that do not fit
    together are searched in turn (``growth.chunks``). ``scope``: which widths may grow, and which grow alike.
    ``describe=False``: without a specification, which spares a quarter of the time of a step on a large graph. The
    three promises of ``growth.promises`` hold on return.
    Raises ``GrowthError`` if nothing can grow, ``BudgetError`` if the budget buys nothing or ``memory`` holds no width.
    """
    inputs = positional_inputs(model, example_inputs)
    objective, clock = Objective.of(batches, loss_fn, model), Timer()
    work, work_optimizer = (model, optimizer) if inplace else copy.deepcopy((model, optimizer))
    with restore_on_failure(work, work_optimizer):
        with _for_growth(work):
            with clock.phase("capture"):
                captured = capture(work, inputs)
            with clock.phase("couple"):
                coupling = couple(captured, only=scope.only, ignore=scope.ignore)
            with clock.phase("describe"):
                old = (
                    describe_if_possible(captured, coupling)
                    if describe
                    else without_description(captured)
                )
            with clock.phase("layers"):
                base = prepare(captured, coupling, method, scope)
            with clock.phase("price"):
                resolved = _affordable(base, budget, scope)
            chosen = _choose(base, method, objective, resolved, seed, clock, memory_limit)
            with clock.phase("emit"), full_precision():
                emitted = _emit(base, chosen, objective, work_optimizer)
        if base.layers:
            remove_unused_layers(
                base,
                width_changes(base.coupling, chosen.grown, chosen.selection),
                work,
                work_optimizer,
            )
        grown_model = base.captured.model
        with clock.phase("describe"):  # outside: the spec records which parameters learn
            again = capture(
                grown_model, inputs
            )  # numbers that its code holds (heads) are constants in the old graph
            with evaluation_mode(grown_model), full_precision():
                require_close(
                    "the same as its own graph",
                    objective.output(again.graph_module),
                    objective.output(grown_model),
                )
            new = (
                describe_if_possible(again, couple(again))
                if describe
                else without_description(again)
            )
    done = FinishedStep(method, budget, base, chosen, emitted, old, new, resolved.ties)
    spec = done.spec(history)
    report = done.report(
        budget_plan(base.coupling, chosen.grown.candidates, chosen.selection, resolved), clock
    )
    graphs = {
        "overgrown": graph_text(chosen.grown.graph_module),
        "emitted": graph_text(again.graph_module),
    }
    return Growth(grown_model, again.graph_module, work_optimizer, spec, report, graphs)


@contextmanager
def _for_growth(work: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients for base parameters while candidates are searched; restored afterwards."""
    learning = {parameter: parameter.requires_grad for parameter in work.parameters()}
    work.requires_grad_(requires_grad=False)
    try:
        with evaluation_mode(work):
            yield
    finally:
        for parameter, flag in learning.items():
            parameter.requires_grad_(flag)


def _affordable(base: PreparedModel, budget: Budget, scope: Scope) -> ResolvedBudget:
    """What the budget comes to."""
    coupling = base.coupling
    if not any(width.growable for width in coupling.widths):
        reasons = "; ".join(
            f"{w.name}: {w.refusal.reason}" for w in coupling.widths[:5] if w.refusal
        )
        raise GrowthError("nothing-growable", f"no width of the model can grow ({reasons})")
    return resolve_budget(
        budget, base.captured, coupling, base.layers.keys(), resolve_ties(coupling, scope.tie)
    )


def _choose(
    base: PreparedModel,
    method: Method,
    objective: Objective,
    resolved: ResolvedBudget,
    seed: int,
    clock: Timer,
    memory_limit: float | None,
) -> Choice:
    """Over-grow, search, select, refine, and shorten the step until the loss does not rise."""
    generator = torch.Generator().manual_seed(seed)
    with clock.phase("overgrow"):
        proposed = base.proposed
        whole = overgrow(
            base.captured,
            base.coupling,
            proposed.split,
            proposed.new,
            generator,
            base.layers.keys(),
        )
        _require_candidates(base.coupling, whole)
        require_equal_candidates(base.coupling, resolved.ties, whole.candidates)
        groups = search_groups(base, whole, objective, memory_limit)
        price = multiply_adds(whole.graph_module, base.captured.example_inputs)
    with clock.phase("search"):
        with full_precision():
            before = objective.mean(base.captured.graph_module)
        found = search_and_select(base, whole, groups, method, objective, resolved, generator)
    refined = memory_limit is None or found.memory_limit <= memory_limit
    with clock.phase("refine"):
        if refined:
            method.refine(found.grown, objective)
    with clock.phase("descend"), full_precision():
        backtracks = backtrack(found.grown, objective, before)
    peak = max(found.peak, found.memory_limit) if refined else found.peak
    return Choice(found.grown, found.selection, before, backtracks, groups, peak, price, refined)


def _require_candidates(coupling: Coupling, grown: OverGrown) -> None:
    if not grown.candidates.split and not grown.candidates.new:
        reasons = "; ".join(
            f"{coupling.widths[n].name}: {r.reason}" for n, r in list(grown.refusals.items())[:5]
        )
        raise GrowthError(
            "no-candidates",
            f"no candidate could be inserted ({reasons or 'the method proposes none'})",
        )


def _emit(
    base: PreparedModel, chosen: Choice, objective: Objective, optimizer: Optimizer | None
) -> Emission:
    """Carry the selection out on the captured model in place, and check the promises on what comes out."""
    grown, selection, coupling = chosen.grown, chosen.selection, base.coupling
    work, inputs = base.captured.model, base.captured.example_inputs
    estimate_statistics(grown, objective, preserving=True)
    expected, old = objective.output(grown.graph_module), objective.output(work)
    gap_before = batch_statistics_gap(work, objective, chosen.loss_before)
    changes, before = width_changes(coupling, grown, selection), parameter_shapes(work)
    still = copy.deepcopy(work)
    emit(still, coupling, changes, parameter_updates(coupling, grown, selection, scale=0.0))
    preserved = require_close("function-preserving at eps = 0", objective.output(still), old)
    emit(work, coupling, changes, parameter_updates(coupling, grown, selection), optimizer)
    faithful = require_close("faithful to the over-grown graph", objective.output(work), expected)
    sizes = ((len(change.times), change.size) for change in changes.values())
    config = update_config(work, before, sizes, inputs)
    loss_fn = objective.mean(work)
    return Emission(
        faithful,
        preserved,
        loss_fn,
        config,
        BatchNormGap.of(gap_before, batch_statistics_gap(work, objective, loss_fn)),
    )
