"""One growth step as a table of contents.

Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020, Algorithm 1,
steps 2 and 3.
"""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from fxgrow.capture import Captured, capture, positional_inputs
from fxgrow.coupling import couple
from fxgrow.errors import GrowthError
from fxgrow.growth.budget import Budget, ResolvedBudget, resolve_budget
from fxgrow.growth.invariants import full_precision, require_close
from fxgrow.growth.method import Method
from fxgrow.growth.objective import Batch, LossFunction, Objective
from fxgrow.growth.prepare import PreparedModel, prepare, remove_unused_layers
from fxgrow.growth.report import describe_if_possible, grown_spec, growth_report, growth_step
from fxgrow.growth.result import Growth, graph_text
from fxgrow.growth.scope import ALL_WIDTHS, Scope, resolve_ties
from fxgrow.growth.search import search
from fxgrow.growth.statistics import BatchNormGap, batch_statistics_gap
from fxgrow.growth.timer import Timer
from fxgrow.growth.verify import emit_and_verify
from fxgrow.modes import evaluation_mode, frozen_parameters
from fxgrow.spec import GrowthStep
from fxgrow.surgery import restore_on_failure


def grow_step(
    model: nn.Module,
    batches: Iterable[Batch],
    loss_fn: LossFunction,
    *,
    example_inputs: Any = None,
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
    """Grow a model once, in nine steps.

    1. *Capture* the model as an fx graph.
    2. *Couple*: find its widths.
    3. *Prepare*: insert the residual layers that the method proposes, without neurons.
    4. *Resolve* the budget to absolute limits for this model.
    5. *Search*: over-grow, relax and score the candidates, and select the best.
    6. *Refine* the selected candidates together, and halve eps until the loss does not rise.
    7. *Emit* the selection on the model, and verify the three checks of ``growth.invariants``.
    8. *Capture again*, and check that the model computes what its graph computes.
    9. *Describe*: the specification and the report.

    Args:
        model: any module that fxgrow can capture.
        batches: (input, target) pairs, a few tens at most. An input is a tensor, a tuple of
            arguments, or a dict of keyword arguments of the model.
        loss_fn: ``loss_fn(output, target)`` gives a scalar tensor.
        example_inputs: in one of the forms of an input; left out, those of the first batch.
        method: proposes and scores the candidates.
        budget: how much may be added.
        optimizer: grows along, state included.
        seed: of the candidates' initial directions.
        history: growth steps to put before this one in the specification.
        inplace: grow the model and optimizer themselves, unless something fails; else a copy.
        memory_limit: bytes that a step over an over-grown graph may keep. Candidates that do not
            fit together are searched in turn.
        scope: which widths may grow, and which grow alike.
        describe: off: without a specification, which spares a quarter of the time on large graphs.

    Returns:
        The grown model of the caller's own class. If the method proposes layers, which no forward
        of the user's calls, it is a graph module of the model's modules and the new ones.

    Raises:
        GrowthError: nothing can grow, or a check fails (``broken-promise``).
        BudgetError: the budget buys nothing, or ``memory_limit`` holds no width.
        ModelError: the model does not run on its example inputs.
    """
    kept_batches = list(batches)
    inputs = _example_inputs(model, example_inputs, kept_batches)
    objective = Objective.of(kept_batches, loss_fn, model)
    timer = Timer()
    work, work_optimizer = (model, optimizer) if inplace else copy.deepcopy((model, optimizer))
    with restore_on_failure(work, work_optimizer):
        with frozen_parameters(work), evaluation_mode(work):
            with timer.phase("capture"):
                captured = capture(work, inputs)
            with timer.phase("couple"):
                coupling = couple(captured, only=scope.only, ignore=scope.ignore)
            with timer.phase("describe"):
                before = describe_if_possible(captured, coupling if describe else None)
            with timer.phase("prepare"):
                prepared = prepare(captured, coupling, method, scope)
            with timer.phase("budget"):
                resolved = _resolve(prepared, budget, scope)
            result = search(
                prepared,
                method,
                objective,
                resolved,
                seed=seed,
                memory_limit=memory_limit,
                timer=timer,
            )
            with timer.phase("emit"), full_precision():
                grown = prepared.captured.model
                gap_before = batch_statistics_gap(grown, objective, result.loss_before)
                emission = emit_and_verify(prepared, result, objective, work_optimizer)
                gap_after = batch_statistics_gap(grown, objective, emission.loss_after)
        if prepared.layers:
            remove_unused_layers(prepared, result.width_changes, work, work_optimizer)
        # Captured outside of the frozen context: the specification records which parameters learn.
        with timer.phase("describe"):
            again = _capture_again(grown, inputs, objective)
            after = describe_if_possible(again, couple(again) if describe else None)
    step = growth_step(method, budget, resolved, prepared, result, emission, before, after)
    spec = grown_spec(before, after, history, step)
    gap = BatchNormGap.of(gap_before, gap_after)
    report = growth_report(
        resolved, prepared, result, emission, gap, before[0], after[0], timer.phases
    )
    graphs = {
        "overgrown": graph_text(result.overgrown.graph_module),
        "emitted": graph_text(again.graph_module),
    }
    return Growth(grown, again.graph_module, work_optimizer, spec, report, graphs)


def _example_inputs(
    model: nn.Module, example_inputs: Any, batches: Sequence[Batch]
) -> tuple[Any, ...]:
    """The example inputs as positional arguments; those of the first batch if none are given."""
    if example_inputs is None and batches:
        example_inputs = batches[0][0]
    return positional_inputs(model, example_inputs)


def _resolve(prepared: PreparedModel, budget: Budget, scope: Scope) -> ResolvedBudget:
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
    return resolve_budget(budget, prepared.captured, coupling, prepared.layers.keys(), ties)


def _capture_again(model: nn.Module, inputs: tuple[Any, ...], objective: Objective) -> Captured:
    """Capture the grown model, and check that it computes what its graph computes.

    Numbers that its code holds (of heads, say) are constants in the old graph, so that graph cannot
    be kept.
    """
    captured = capture(model, inputs)
    with evaluation_mode(model), full_precision():
        require_close(
            "the same as its own graph",
            objective.output(captured.graph_module),
            objective.output(model),
        )
    return captured
