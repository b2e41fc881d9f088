"""One growth step, the compiler's table of contents (DESIGN; Wu et al. 2020, Algorithm 1, steps 2 and 3).

capture -> couple -> over-grow -> relax and score (the method's search) -> select -> refine -> descend -> emit and
verify -> spec
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from fxgrow.capture import Captured, capture
from fxgrow.coupling import Coupling, couple
from fxgrow.errors import GrowthError, Refusal
from fxgrow.growth.budget import Budget, Purse, open_purse
from fxgrow.growth.emit import emit
from fxgrow.growth.method import Method
from fxgrow.growth.objective import Batch, Loss, Objective
from fxgrow.growth.plan import Plan, plan_of
from fxgrow.growth.promises import descend, keep
from fxgrow.growth.realise import changes_of, fillings_of
from fxgrow.growth.result import Clock, Growth, GrowthReport, dump
from fxgrow.growth.select import Selection, select
from fxgrow.rewrite import OverGrown, overgrow
from fxgrow.spec import ArchitectureSpec, GrowthStep, MethodRecord, WidthChange, describe


def grow_step(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: Loss,
    *,
    example_inputs: tuple[Any, ...],
    method: Method,
    budget: Budget,
    optimizer: Optimizer | None = None,
    seed: int = 0,
    history: Sequence[GrowthStep] = (),
) -> Growth:
    """Grow a copy of ``model`` by ``method`` within ``budget``; the caller's model and optimiser are left as they are.

    ``batches``: (input, target) pairs, a few tens at most; ``loss(output, target)``: a scalar. The three promises of
    ``growth.promises`` hold on return. Raises ``GrowthError`` if nothing can grow, ``BudgetError`` if the budget buys
    nothing.
    """
    objective, clock = Objective.of(batches, loss), Clock()
    work, work_optimizer = copy.deepcopy((model, optimizer))
    with _for_growth(work):
        with clock.phase("capture"):
            captured = capture(work, example_inputs)
        with clock.phase("couple"):
            coupling = couple(captured)
        with clock.phase("price"):
            purse = _affordable(captured, coupling, budget)
        chosen = _choose(captured, coupling, method, objective, purse, seed, clock)
        with clock.phase("describe"):
            parent = describe(captured.graph_module, example_inputs, widths=coupling.widths)
            over_grown = dump(chosen.grown.graph_module)
        with clock.phase("emit"):
            checks = _emit(captured, coupling, chosen, objective, work_optimizer)
    with clock.phase("describe"):  # outside: the spec records which parameters learn
        emitted = describe(captured.graph_module, example_inputs, widths=couple(captured).widths)
    step = _record(method, budget, coupling, chosen, checks, parent, emitted)
    spec = emitted.model_copy(update={"history": (*history, step)})
    plan = plan_of(coupling, chosen.grown.candidates, chosen.selection, purse)
    report = _report(step, plan, _refusals(coupling, chosen.grown), chosen, clock)
    graphs = {"overgrown": over_grown, "emitted": dump(captured.graph_module)}
    return Growth(work, captured.graph_module, work_optimizer, spec, report, graphs)


@contextmanager
def _for_growth(work: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients for base parameters while candidates are searched; restored afterwards."""
    training = {module: module.training for module in work.modules()}
    learning = {parameter: parameter.requires_grad for parameter in work.parameters()}
    work.eval().requires_grad_(requires_grad=False)
    try:
        yield
    finally:
        for parameter, flag in learning.items():
            parameter.requires_grad_(flag)
        for module, training_flag in training.items():
            module.training = training_flag


def _affordable(captured: Captured, coupling: Coupling, budget: Budget) -> Purse:
    """What the budget comes to."""
    if not any(width.growable for width in coupling.widths):
        reasons = "; ".join(f"{w.name}: {w.refusal.reason}" for w in coupling.widths[:5] if w.refusal)
        raise GrowthError("nothing-growable", f"no width of the model can grow ({reasons})")
    return open_purse(budget, captured, coupling)


@dataclass(frozen=True)
class Chosen:
    """The over-grown graph with the unselected candidates off, what was selected, and the loss before."""

    grown: OverGrown
    selection: Selection
    loss_before: float
    backtracks: int


def _choose(
    captured: Captured, coupling: Coupling, method: Method, objective: Objective, purse: Purse, seed: int, clock: Clock
) -> Chosen:
    """Over-grow, search, select, refine, and shorten the step until the loss does not rise."""
    generator = torch.Generator().manual_seed(seed)
    with clock.phase("overgrow"):
        proposed = method.neighbourhood(coupling)
        grown = overgrow(captured, coupling, proposed.split, proposed.new, generator)
        _require_candidates(coupling, grown)
        choose = partial(select, candidates=grown.candidates, purse=purse)
    with clock.phase("search"):
        before = objective.mean(captured.graph_module)
        scores = method.search(grown, objective, generator, choose)
    with clock.phase("select"):
        selection = choose(scores)
        selection.switch_off_others(grown.candidates)
    with clock.phase("refine"):
        method.refine(grown, objective)
    with clock.phase("descend"):
        backtracks = descend(grown, objective, before)
    return Chosen(grown, selection, before, backtracks)


def _require_candidates(coupling: Coupling, grown: OverGrown) -> None:
    if not grown.candidates.split and not grown.candidates.new:
        reasons = "; ".join(f"{coupling.widths[n].name}: {r.reason}" for n, r in list(grown.refusals.items())[:5])
        raise GrowthError("no-candidates", f"no candidate could be inserted ({reasons or 'the method proposes none'})")


@dataclass(frozen=True)
class Checks:
    """How well the promises were kept."""

    faithful_error: float
    preservation_error: float
    loss_after: float


def _emit(
    captured: Captured, coupling: Coupling, chosen: Chosen, objective: Objective, optimizer: Optimizer | None
) -> Checks:
    """Carry the selection out on the captured model in place, and check the promises on what comes out."""
    grown, selection, work = chosen.grown, chosen.selection, captured.model
    expected, old = objective.output(grown.graph_module), objective.output(work)
    changes = changes_of(coupling, grown, selection)
    still = copy.deepcopy(work)
    emit(still, coupling, changes, fillings_of(coupling, grown, selection, scale=0.0))
    preserved = keep("function-preserving at eps = 0", objective.output(still), old)
    emit(work, coupling, changes, fillings_of(coupling, grown, selection), optimizer)
    faithful = keep("faithful to the over-grown graph", objective.output(work), expected)
    keep("the same as its own graph", objective.output(captured.graph_module), objective.output(work))
    return Checks(faithful, preserved, objective.mean(work))


def _record(
    method: Method,
    budget: Budget,
    coupling: Coupling,
    chosen: Chosen,
    checks: Checks,
    parent: ArchitectureSpec,
    emitted: ArchitectureSpec,
) -> GrowthStep:
    """The step as the specification's history keeps it."""
    return GrowthStep(
        parent=parent.fingerprint,
        method=MethodRecord(name=type(method).__name__, settings=method.model_dump()),
        budget=budget.model_dump(exclude_defaults=True),
        widths=_width_changes(coupling, chosen.grown, chosen.selection),
        cost_before=parent.cost,
        cost_after=emitted.cost,
        faithful_error=checks.faithful_error,
        preservation_error=checks.preservation_error,
        loss_before=chosen.loss_before,
        loss_after=checks.loss_after,
        backtracks=chosen.backtracks,
    )


def _width_changes(coupling: Coupling, grown: OverGrown, selection: Selection) -> tuple[WidthChange, ...]:
    return tuple(
        WidthChange(
            width=coupling.widths[n].name,
            before=coupling.widths[n].size,
            after=change.size,
            split=sum(times - 1 for times in change.times),
            new=change.fresh,
            scores=selection.chosen_scores(grown.candidates, n),
        )
        for n, change in changes_of(coupling, grown, selection).items()
    )


def _refusals(coupling: Coupling, grown: OverGrown) -> dict[str, Refusal]:
    """Why the widths that did not take part did not."""
    found = {width.name: width.refusal for width in coupling.widths if width.refusal}
    return found | {coupling.widths[n].name: refusal for n, refusal in grown.refusals.items()}


def _report(step: GrowthStep, plan: Plan, refusals: dict[str, Refusal], chosen: Chosen, clock: Clock) -> GrowthReport:
    return GrowthReport(
        loss_before=chosen.loss_before,
        loss_after=step.loss_after or 0.0,
        faithful_error=step.faithful_error or 0.0,
        preservation_error=step.preservation_error or 0.0,
        backtracks=chosen.backtracks,
        params_before=step.cost_before.parameters,
        params_after=step.cost_after.parameters,
        multiply_adds_before=step.cost_before.multiply_adds,
        multiply_adds_after=step.cost_after.multiply_adds,
        widths=step.widths,
        plan=plan,
        refusals=refusals,
        edits=dict(chosen.grown.edits),
        timings=clock.phases,
    )
