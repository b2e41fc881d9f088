"""One growth step as a table of contents.

Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020, Algorithm 1,
steps 2 and 3.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fxgrow.capture import Captured, capture, require_growable_model
from fxgrow.copying import copy_with_optimizers
from fxgrow.coupling import Width, couple, grown_widths
from fxgrow.growth.batch_roles import take_batches
from fxgrow.growth.block_growth import (
    insert_bought_blocks,
    require_block_candidates,
    search_beside,
)
from fxgrow.growth.budget import Budget
from fxgrow.growth.companions import grow_companion, require_alike
from fxgrow.growth.data_parallel import (
    require_same_end,
    require_same_start,
    unwrapped,
    wrap_again,
)
from fxgrow.growth.expressible import require_expressed
from fxgrow.growth.invariants import full_precision
from fxgrow.growth.method import Method
from fxgrow.growth.objective import LossFunction, Objective
from fxgrow.growth.prepare import PreparedModel, remove_unused_layers
from fxgrow.growth.report import (
    Measured,
    describe_if_possible,
    grown_spec,
    growth_report,
    growth_step,
)
from fxgrow.growth.result import Growth, graph_text
from fxgrow.growth.rounding import Snapshot, require_same
from fxgrow.growth.search import SearchLimits, SearchResult, require_searchable
from fxgrow.growth.statistics import BatchNormGap, batch_statistics_gap
from fxgrow.growth.step_options import DEFAULT_OPTIONS, StepOptions
from fxgrow.growth.step_search import (
    ReadyModel,
    first_example_inputs,
    frozen_names,
    make_ready,
    require_gain,
    search_model,
)
from fxgrow.growth.timer import Timer
from fxgrow.growth.verify import Emission, emit_and_verify
from fxgrow.modes import (
    evaluation_mode,
    exclusive_autograd,
    frozen_parameters,
    plain_attention,
)
from fxgrow.ranks import Ranks
from fxgrow.sharding import plain_inside
from fxgrow.surgery import Optimizers, StateTreatment, restore_on_failure


def grow_step(
    model: nn.Module,
    batches: Iterable[Any],
    loss_fn: LossFunction,
    *,
    method: Method,
    budget: Budget,
    options: StepOptions = DEFAULT_OPTIONS,
) -> Growth:
    """Grow a model once, in ten steps.

    1. Capture: the model as an fx graph.
    2. Couple: find its widths.
    3. Prepare: insert the residual layers that the method proposes, without neurons.
    4. Budget: resolve it to absolute limits for this model; some methods pick another one by it.
    5. Statistics: estimate those of all batch norms anew, for the weights that there are now.
    6. Search: over-grow, relax and score the candidates, select the best.
    7. Refine: adapt them to each other, halve eps until the loss does not rise (in ``search``).
       Copies of blocks that promise more, if the scope has any, are put into the model here; then
       2 to 7 are done once more with the rest of the budget.
    8. Emit: carry the selection out on the model, and verify the three checks.
    9. Capture again: the model must compute what its graph computes.
    10. Describe: the specification and the report.

    The arguments are those of ``fxgrow.grow``, and so is what is returned and raised.
    """
    kept, bare = take_batches(batches, method), unwrapped(model)
    with ExitStack() as stack:
        sharded = stack.enter_context(plain_inside(bare, options.optimizers))
        for companion in options.companions:
            stack.enter_context(plain_inside(companion)).becomes(companion)
        growth = _grow_together(bare, kept, loss_fn, method, budget, options)
        sharded.becomes(growth.module, growth.optimizers, inplace=options.inplace)
    if isinstance(model, DistributedDataParallel) and growth.module is bare:
        wrap_again(model)
    return growth


def _grow_together(
    model: nn.Module,
    kept: Sequence[Any],
    loss_fn: LossFunction,
    method: Method,
    budget: Budget,
    options: StepOptions,
) -> Growth:
    """Grow a plain model, in all processes of a group, if there is one."""
    ranks = Ranks.of_process()
    # Fused attention cuts padding out, so what it gives there is not what the graph gives.
    with exclusive_autograd(), plain_attention(), ranks.together():
        work, optimizers = _to_grow(model, options)
        require_block_candidates(work, method, budget, options)
        with restore_on_failure(work, optimizers), _restored_on_failure(options.companions):
            require_same_start(work, len(kept), budget, options.seed, ranks)
            objective = Objective.of(kept, loss_fn, work, ranks)
            objective.require_gradient(work)
            growth = _grown(work, optimizers, objective, method, budget, options)
            require_same_end(growth.module, ranks)
    return growth


@contextmanager
def _restored_on_failure(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Put all of these modules back as they were when the body raises."""
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(restore_on_failure(module))
        yield


def _grown(
    work: nn.Module,
    optimizers: Optimizers,
    objective: Objective,
    method: Method,
    budget: Budget,
    options: StepOptions,
) -> Growth:
    """Grow the model and the optimizers that are changed; the caller puts them back on failure."""
    timer = Timer(on_phase=options.on_phase)
    blocks = None
    found = search_model(work, objective, method, budget, options, timer)
    if options.scope.blocks:
        blocks = insert_bought_blocks(work, optimizers, found, budget, options, timer)
        found = search_beside(blocks, work, objective, method, options, timer)
    elif not options.accept_no_gain:
        require_gain(found.result)
    ready, result = found.ready, found.result
    prepared, objective = ready.prepared, found.objective
    with frozen_parameters(work), evaluation_mode(work):
        emission, emitted = timer.run(
            "emit", _emit, prepared, result, objective, optimizers, options.treatment
        )
        if options.scope.expressible and result.width_changes:
            require_expressed(emission.config)
        # Before the layers that were not used go: numbers of widths are those of the coupling.
        for companion in options.companions:
            grow_companion(companion, prepared, result.width_changes, objective)
    remove_unused_layers(prepared, result.width_changes, work, optimizers)
    # Outside of the frozen context: the specification records which parameters learn.
    again = timer.run("check", _capture_again, prepared.captured.model, found.inputs, objective)
    widths = _widths_again(ready, result, again, options) if options.describe else None
    after = timer.run("describe", describe_if_possible, again, widths, options.counts_costs)
    measured = replace(emitted, stale_loss=found.stale, roles=found.roles, picked=ready.picked.why)
    outcome = (ready.resolved, prepared, result, emission, measured, ready.before, after)
    step = growth_step(ready.picked.method, budget, *outcome)
    if blocks is None:
        report = growth_report(*outcome, timer.phases)
    else:
        report = blocks.reported(growth_report(*outcome, timer.phases, blocks.whole_plan))
        step = blocks.recorded(step)
    spec = grown_spec(ready.before, after, options.history, step)
    graphs = {
        "overgrown": graph_text(result.overgrown.graph_module),
        "emitted": graph_text(again.graph_module),
    }
    return Growth(again.model, again.graph_module, optimizers, spec, report, graphs)


def _widths_again(
    ready: ReadyModel, result: SearchResult, again: Captured, options: StepOptions
) -> tuple[Width, ...]:
    """The widths of the grown model, by those before if that is certain; else coupled again."""
    prepared = ready.prepared
    # Limits refused widths that are free again; a layer made the model another one.
    if ready.everywhere and not prepared.layers and not options.examples:
        changes = result.width_changes
        widths = grown_widths(prepared.coupling, changes, prepared.captured, again)
        if widths is not None:
            return widths
    return couple(again, examples=options.examples).widths


def check_step(
    model: nn.Module,
    batches: Iterable[Any],
    loss_fn: LossFunction,
    *,
    method: Method,
    budget: Budget,
    options: StepOptions = DEFAULT_OPTIONS,
) -> str:
    """Carry a growth step out as far as nothing is computed but shapes, on a copy.

    What can't be granted (a budget that buys nothing, patterns that match nothing, unequal ties,
    too little memory) is refused here as there, before anybody trains for it.

    Args:
        model, batches, loss_fn, method, budget, options: as for ``grow_step``; one batch of the
            size that there will be is enough.

    Returns:
        Why the multiply-adds of its search are not known; "" if they are.

    Raises:
        FxgrowError: what ``grow_step`` raises before it searches.
    """
    kept = take_batches(batches, method)
    with plain_inside(model), exclusive_autograd(), plain_attention():
        work, _ = _to_grow(model, replace(options, inplace=False))
        require_block_candidates(work, method, budget, options)
        objective = Objective.of(kept, loss_fn, work)
        inputs = first_example_inputs(work, options.example_inputs, objective)
        limits = SearchLimits(options.memory_limit, options.counts_costs)
        frozen = () if options.grow_frozen else frozen_names(work)
        with frozen_parameters(work), evaluation_mode(work):
            ready = make_ready(work, inputs, method, budget, options, frozen, Timer())
            return require_searchable(ready.prepared, objective, ready.resolved, limits)


def _to_grow(model: nn.Module, options: StepOptions) -> tuple[nn.Module, Optimizers]:
    """The model and optimizers that are changed: the caller's own, or copies of all together."""
    require_growable_model(model, values=True)
    options.treatment.require(options.optimizers, model)
    require_alike(options.companions, model)
    if options.inplace:
        return model, options.optimizers
    return copy_with_optimizers(model, options.optimizers)


def _emit(
    prepared: PreparedModel,
    result: SearchResult,
    objective: Objective,
    optimizers: Optimizers,
    treatment: StateTreatment,
) -> tuple[Emission, Measured]:
    """Emit and verify; also measure what decides nothing, before and after."""
    model, scoring, held_out = prepared.captured.model, objective.scoring, objective.held_out

    def gap_at(loss: float) -> float | None:
        # New channels without effect move no loss, whatever statistics they are normalized by.
        return None if result.keeps_function else batch_statistics_gap(model, scoring, loss)

    with full_precision():
        gap_before = gap_at(result.loss_before)
        held_out_before = held_out.mean(model)
        emission = emit_and_verify(prepared, result, objective, optimizers, treatment)
        gap_after = gap_at(emission.loss_after)
        held_out_after = held_out.mean(model)
    gap = BatchNormGap.of(gap_before, gap_after)
    return emission, Measured(held_out_before, held_out_after, gap)


def _capture_again(model: nn.Module, inputs: tuple[Any, ...], objective: Objective) -> Captured:
    """Capture the grown model, and check that it computes what its graph computes.

    Numbers that its code holds (of heads, say) are constants in the old graph, so that graph cannot
    be kept.
    """
    captured = capture(model, inputs)
    with evaluation_mode(model), full_precision():
        compared = objective.output(captured.graph_module), objective.output(model)
        models = Snapshot.live(captured.graph_module), Snapshot.live(model)
        require_same("the same as its own graph", compared, models, objective.first_inputs)
    return captured
