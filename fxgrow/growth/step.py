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

from fxgrow.capture import capture, positional
from fxgrow.coupling import Coupling, couple
from fxgrow.errors import GrowthError
from fxgrow.growth.budget import Budget, Purse, open_purse
from fxgrow.growth.chunks import find, groups_of
from fxgrow.growth.emit import emit
from fxgrow.growth.ground import Ground, ground, settle_layers
from fxgrow.growth.method import Method
from fxgrow.growth.objective import Batch, Loss, Objective, evaluating
from fxgrow.growth.plan import plan_of
from fxgrow.growth.promises import descend, full_precision, keep
from fxgrow.growth.realise import changes_of, fillings_of
from fxgrow.growth.record import Chosen, Done, Emitted, described, undescribed
from fxgrow.growth.result import Clock, Growth, dump
from fxgrow.growth.scope import EVERYTHING, Scope
from fxgrow.growth.statistics import Jump, estimate, gap
from fxgrow.growth.ties import require_alike, ties_of
from fxgrow.rewrite import OverGrown, overgrow
from fxgrow.spec import GrowthStep, multiply_adds
from fxgrow.surgery.config import follow, shapes
from fxgrow.surgery.undo import undone_on_failure


def grow_step(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: Loss,
    *,
    example_inputs: Any,
    method: Method,
    budget: Budget,
    optimizer: Optimizer | None = None,
    seed: int = 0,
    history: Sequence[GrowthStep] = (),
    inplace: bool = False,
    memory: float | None = None,
    scope: Scope = EVERYTHING,
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
    inputs = positional(model, example_inputs)
    objective, clock = Objective.of(batches, loss, model), Clock()
    work, work_optimizer = (model, optimizer) if inplace else copy.deepcopy((model, optimizer))
    with undone_on_failure(work, work_optimizer):
        with _for_growth(work):
            with clock.phase("capture"):
                captured = capture(work, inputs)
            with clock.phase("couple"):
                coupling = couple(captured, only=scope.only, ignore=scope.ignore)
            with clock.phase("describe"):
                old = described(captured, coupling) if describe else undescribed(captured)
            with clock.phase("layers"):
                base = ground(captured, coupling, method, scope)
            with clock.phase("price"):
                purse = _affordable(base, budget, scope)
            chosen = _choose(base, method, objective, purse, seed, clock, memory)
            with clock.phase("emit"), full_precision():
                emitted = _emit(base, chosen, objective, work_optimizer)
        if base.layers:
            settle_layers(base, changes_of(base.coupling, chosen.grown, chosen.selection), work, work_optimizer)
        grown_model = base.captured.model
        with clock.phase("describe"):  # outside: the spec records which parameters learn
            again = capture(grown_model, inputs)  # numbers that its code holds (heads) are constants in the old graph
            with evaluating(grown_model), full_precision():
                keep("the same as its own graph", objective.output(again.graph_module), objective.output(grown_model))
            new = described(again, couple(again)) if describe else undescribed(again)
    done = Done(method, budget, base, chosen, emitted, old, new, purse.ties)
    spec = done.spec(history)
    report = done.report(plan_of(base.coupling, chosen.grown.candidates, chosen.selection, purse), clock)
    graphs = {"overgrown": dump(chosen.grown.graph_module), "emitted": dump(again.graph_module)}
    return Growth(grown_model, again.graph_module, work_optimizer, spec, report, graphs)


@contextmanager
def _for_growth(work: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients for base parameters while candidates are searched; restored afterwards."""
    learning = {parameter: parameter.requires_grad for parameter in work.parameters()}
    work.requires_grad_(requires_grad=False)
    try:
        with evaluating(work):
            yield
    finally:
        for parameter, flag in learning.items():
            parameter.requires_grad_(flag)


def _affordable(base: Ground, budget: Budget, scope: Scope) -> Purse:
    """What the budget comes to."""
    coupling = base.coupling
    if not any(width.growable for width in coupling.widths):
        reasons = "; ".join(f"{w.name}: {w.refusal.reason}" for w in coupling.widths[:5] if w.refusal)
        raise GrowthError("nothing-growable", f"no width of the model can grow ({reasons})")
    return open_purse(budget, base.captured, coupling, base.layers.keys(), ties_of(coupling, scope.tie))


def _choose(
    base: Ground, method: Method, objective: Objective, purse: Purse, seed: int, clock: Clock, memory: float | None
) -> Chosen:
    """Over-grow, search, select, refine, and shorten the step until the loss does not rise."""
    generator = torch.Generator().manual_seed(seed)
    with clock.phase("overgrow"):
        proposed = base.proposed
        whole = overgrow(base.captured, base.coupling, proposed.split, proposed.new, generator, base.layers.keys())
        _require_candidates(base.coupling, whole)
        require_alike(base.coupling, purse.ties, whole.candidates)
        groups = groups_of(base, whole, objective, memory)
        price = multiply_adds(whole.graph_module, base.captured.example_inputs)
    with clock.phase("search"):
        with full_precision():
            before = objective.mean(base.captured.graph_module)
        found = find(base, whole, groups, method, objective, purse, generator)
    refined = memory is None or found.memory <= memory
    with clock.phase("refine"):
        if refined:
            method.refine(found.grown, objective)
    with clock.phase("descend"), full_precision():
        backtracks = descend(found.grown, objective, before)
    peak = max(found.peak, found.memory) if refined else found.peak
    return Chosen(found.grown, found.selection, before, backtracks, groups, peak, price, refined)


def _require_candidates(coupling: Coupling, grown: OverGrown) -> None:
    if not grown.candidates.split and not grown.candidates.new:
        reasons = "; ".join(f"{coupling.widths[n].name}: {r.reason}" for n, r in list(grown.refusals.items())[:5])
        raise GrowthError("no-candidates", f"no candidate could be inserted ({reasons or 'the method proposes none'})")


def _emit(base: Ground, chosen: Chosen, objective: Objective, optimizer: Optimizer | None) -> Emitted:
    """Carry the selection out on the captured model in place, and check the promises on what comes out."""
    grown, selection, coupling = chosen.grown, chosen.selection, base.coupling
    work, inputs = base.captured.model, base.captured.example_inputs
    estimate(grown, objective, preserving=True)
    expected, old = objective.output(grown.graph_module), objective.output(work)
    gap_before = gap(work, objective, chosen.loss_before)
    changes, before = changes_of(coupling, grown, selection), shapes(work)
    still = copy.deepcopy(work)
    emit(still, coupling, changes, fillings_of(coupling, grown, selection, scale=0.0))
    preserved = keep("function-preserving at eps = 0", objective.output(still), old)
    emit(work, coupling, changes, fillings_of(coupling, grown, selection), optimizer)
    faithful = keep("faithful to the over-grown graph", objective.output(work), expected)
    sizes = ((len(change.times), change.size) for change in changes.values())
    config = follow(work, before, sizes, inputs)
    loss = objective.mean(work)
    return Emitted(faithful, preserved, loss, config, Jump.of(gap_before, gap(work, objective, loss)))
