"""One growth step as a table of contents.

Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020, Algorithm 1,
steps 2 and 3.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Optimizer

from fxgrow.capture import (
    Captured,
    capture,
    positional_inputs,
    preserve_attributes,
    require_growable_model,
)
from fxgrow.copying import copy_with_optimizer
from fxgrow.coupling import Width, couple, grown_widths
from fxgrow.errors import GrowthError
from fxgrow.growth.batch_roles import assign_roles, take_batches
from fxgrow.growth.batches import outside_inference
from fxgrow.growth.budget import Budget, ResolvedBudget, resolve_budget
from fxgrow.growth.candidate_counts import neurons_after, with_candidates_for_budget
from fxgrow.growth.companions import grow_companion, require_alike, require_no_layers
from fxgrow.growth.expressible import limit_to_config, require_expressed
from fxgrow.growth.invariants import MAX_BACKTRACKS, full_precision, require_close
from fxgrow.growth.method import Method, Picked, pick_method, proposal_of
from fxgrow.growth.objective import LossFunction, Objective
from fxgrow.growth.prepare import (
    PreparedModel,
    couple_in_scope,
    prepare,
    remove_unused_layers,
)
from fxgrow.growth.report import (
    Description,
    Measured,
    describe_if_possible,
    grown_spec,
    growth_report,
    growth_step,
)
from fxgrow.growth.result import Growth, graph_text
from fxgrow.growth.scope import ALL_WIDTHS, Scope, resolve_ties
from fxgrow.growth.search import SearchLimits, SearchResult, require_searchable, search
from fxgrow.growth.statistics import (
    BatchNormGap,
    all_statistics,
    batch_statistics_gap,
    frozen_statistics,
    has_statistics,
    refresh_statistics,
)
from fxgrow.growth.timer import OnPhase, Timer, tell_nobody
from fxgrow.growth.verify import Emission, emit_and_verify
from fxgrow.modes import (
    evaluation_mode,
    exclusive_autograd,
    frozen_parameters,
    plain_attention,
)
from fxgrow.spec import GrowthStep
from fxgrow.surgery import DEFAULT_TREATMENT, StateTreatment, restore_on_failure


@dataclass(frozen=True, eq=False)
class StepOptions:
    """How a growth step runs.

    Args:
        optimizer: grows along, state included.
        seed: of the candidates' initial directions.
        history: growth steps to put before this one in the specification.
        inplace: grow the model and optimizer themselves, unless something fails; else copies.
        memory_limit: bytes that a step over an over-grown graph may keep. Candidates that do not
            fit together are searched in turn.
        scope: which widths may grow, and which grow alike.
        example_inputs: in one of the forms of an input; None: those of the first batch.
        describe: off: without a specification, which spares a quarter of the time on large graphs.
        costs: whether the report tells multiply-adds and memory; None: as ``describe``.
        examples: more example inputs; only what can grow in all of them grows.
        grow_frozen: widths that frozen parameters (``requires_grad`` off) write or read may grow,
            too. What is new of such a parameter does not learn either.
        refresh_statistics: estimate the running statistics of all batch norms anew on the growth
            batches, before anything is searched or measured; those of frozen batch norms stay.
        accept_no_gain: grow even if no step of the selected candidates lowers the loss, so that eps
            ends at 0: split neurons are twins, and new ones have no effect yet.
        treatment: what becomes of the optimizer's state.
        companions: networks like the model that grow with it, in place.
        on_phase: called with the name of every phase when it begins, and with its steps.
    """

    optimizer: Optimizer | None = None
    seed: int = 0
    history: Sequence[GrowthStep] = ()
    inplace: bool = False
    memory_limit: float | None = None
    scope: Scope = ALL_WIDTHS
    example_inputs: Any = None
    describe: bool = True
    costs: bool | None = None
    examples: Sequence[Any] = ()
    grow_frozen: bool = False
    refresh_statistics: bool = True
    accept_no_gain: bool = False
    treatment: StateTreatment = DEFAULT_TREATMENT
    companions: Sequence[nn.Module] = ()
    on_phase: OnPhase = tell_nobody

    @property
    def counts_costs(self) -> bool:
        """Whether multiply-adds and memory are counted for the report."""
        return self.describe if self.costs is None else self.costs


def grow_step(
    model: nn.Module,
    batches: Iterable[Any],
    loss_fn: LossFunction,
    *,
    method: Method,
    budget: Budget,
    options: StepOptions = StepOptions(),
) -> Growth:
    """Grow a model once, in ten steps.

    1. Capture: the model as an fx graph.
    2. Couple: find its widths.
    3. Prepare: insert the residual layers that the method proposes, without neurons.
    4. Budget: resolve it to absolute limits for this model; some methods pick another one by it.
    5. Statistics: estimate those of all batch norms anew, for the weights that there are now.
    6. Search: over-grow, relax and score the candidates, select the best.
    7. Refine: adapt them to each other, halve eps until the loss does not rise (in ``search``).
    8. Emit: carry the selection out on the model, and verify the three checks.
    9. Capture again: the model must compute what its graph computes.
    10. Describe: the specification and the report.

    The arguments are those of ``fxgrow.grow``, and so is what is returned and raised.
    """
    kept = take_batches(batches, method)
    # Fused attention cuts padding out, so what it gives there is not what the graph gives.
    with exclusive_autograd(), plain_attention():
        work, optimizer = _to_grow(model, options)
        with restore_on_failure(work, optimizer), _restored_on_failure(options.companions):
            objective = Objective.of(kept, loss_fn, work)
            objective.require_gradient(work)
            return _grown(work, optimizer, objective, method, budget, options)


@contextmanager
def _restored_on_failure(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Put all of these modules back as they were when the body raises."""
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(restore_on_failure(module))
        yield


def _grown(
    work: nn.Module,
    optimizer: Optimizer | None,
    objective: Objective,
    method: Method,
    budget: Budget,
    options: StepOptions,
) -> Growth:
    """Grow the model and the optimizer that are changed; the caller puts them back on failure."""
    timer = Timer(on_phase=options.on_phase)
    inputs = _example_inputs(work, options.example_inputs, objective)
    kept_statistics, counts = frozen_statistics(work), options.counts_costs
    frozen = () if options.grow_frozen else _frozen_names(work)
    with frozen_parameters(work), evaluation_mode(work):
        ready = _ready(work, inputs, method, budget, options, frozen, timer)
        # Nothing of the model has changed so far; from here on its statistics may.
        before, prepared = ready.before, ready.prepared
        resolved, picked = ready.resolved, ready.picked
        objective, roles = assign_roles(objective, picked.method)
        objective = replace(objective, on_step=timer.note_step)
        stale = None
        if options.refresh_statistics:
            stale = timer.run("statistics", _refresh, prepared, objective, kept_statistics)
        limits = SearchLimits(options.memory_limit, counts)
        with preserve_attributes(work):  # hooks may keep what the search feeds to them
            result = search(
                prepared, picked.method, objective, resolved, options.seed, limits, timer
            )
        if not options.accept_no_gain:
            _require_gain(result)
        emission, emitted = timer.run(
            "emit", _emit, prepared, result, objective, optimizer, options.treatment
        )
        if options.scope.expressible:
            require_expressed(emission.config)
        # Before the layers that were not used go: numbers of widths are those of the coupling.
        for companion in options.companions:
            grow_companion(companion, prepared, result.width_changes, objective)
    remove_unused_layers(prepared, result.width_changes, work, optimizer)
    # Outside of the frozen context: the specification records which parameters learn.
    again = timer.run("check", _capture_again, prepared.captured.model, inputs, objective)
    widths = _widths_again(ready, result, again, options) if options.describe else None
    after = timer.run("describe", describe_if_possible, again, widths, counts)
    measured = replace(emitted, stale_loss=stale, roles=roles, picked=picked.why)
    step = growth_step(
        picked.method, budget, resolved, prepared, result, emission, measured, before, after
    )
    spec = grown_spec(before, after, options.history, step)
    report = growth_report(
        resolved, prepared, result, emission, measured, before, after, timer.phases
    )
    graphs = {
        "overgrown": graph_text(result.overgrown.graph_module),
        "emitted": graph_text(again.graph_module),
    }
    return Growth(again.model, again.graph_module, optimizer, spec, report, graphs)


@dataclass(frozen=True, eq=False)
class _Ready:
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


def _ready(
    work: nn.Module,
    inputs: tuple[Any, ...],
    method: Method,
    budget: Budget,
    options: StepOptions,
    frozen: tuple[str, ...],
    timer: Timer,
) -> _Ready:
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
    resolved = timer.run("budget", _resolve, prepared, budget, scope)
    picked = pick_method(method, partial(neurons_after, prepared, resolved))
    prepared = _with_candidates(prepared, method, picked.method, resolved)
    require_no_layers(options.companions, prepared)
    return _Ready(before, prepared, resolved, picked, is_everywhere)


def _widths_again(
    ready: _Ready, result: SearchResult, again: Captured, options: StepOptions
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
    options: StepOptions = StepOptions(),
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
    with exclusive_autograd(), plain_attention():
        work, _ = _to_grow(model, replace(options, inplace=False))
        objective = Objective.of(kept, loss_fn, work)
        inputs = _example_inputs(work, options.example_inputs, objective)
        limits = SearchLimits(options.memory_limit, options.counts_costs)
        frozen = () if options.grow_frozen else _frozen_names(work)
        with frozen_parameters(work), evaluation_mode(work):
            ready = _ready(work, inputs, method, budget, options, frozen, Timer())
            return require_searchable(ready.prepared, objective, ready.resolved, limits)


def _with_candidates(
    prepared: PreparedModel, asked: Method, picked: Method, budget: ResolvedBudget
) -> PreparedModel:
    """The model with as many candidates of the picked method as the budget can buy."""
    if picked is not asked:  # which proposes no layers, so nothing else depends on its proposal
        prepared = replace(prepared, proposal=proposal_of(picked, prepared.coupling))
    return with_candidates_for_budget(prepared, budget)


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


def _frozen_names(model: nn.Module) -> tuple[str, ...]:
    """The parameters that do not learn."""
    frozen = []
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if not parameter.requires_grad:
            frozen.append(name)
    return tuple(frozen)


def _example_inputs(model: nn.Module, example_inputs: Any, objective: Objective) -> tuple[Any, ...]:
    """The example inputs as positional arguments; those of the first batch if none are given."""
    if example_inputs is None:
        return objective.first_inputs
    return positional_inputs(model, outside_inference(example_inputs))


def _to_grow(model: nn.Module, options: StepOptions) -> tuple[nn.Module, Optimizer | None]:
    """The model and optimizer that are changed: the caller's own, or copies of both together."""
    require_growable_model(model, values=True)
    if options.optimizer is not None:
        options.treatment.require(options.optimizer, model)
    require_alike(options.companions, model)
    if options.inplace:
        return model, options.optimizer
    return copy_with_optimizer(model, options.optimizer)


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
    resolved = resolve_budget(budget, prepared.captured, coupling, prepared.layers.keys(), ties)
    depth = prepared.proposal.layers
    if depth is None or depth.most is None:
        return resolved
    # A method may insert fewer layers at a time than the budget allows.
    allowed = depth.most if budget.layers is None else min(depth.most, budget.layers)
    return replace(resolved, max_layers=allowed)


def _require_gain(result: SearchResult) -> None:
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


def _emit(
    prepared: PreparedModel,
    result: SearchResult,
    objective: Objective,
    optimizer: Optimizer | None,
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
        emission = emit_and_verify(prepared, result, objective, optimizer, treatment)
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
        from_graph = objective.output(captured.graph_module)
        require_close("the same as its own graph", from_graph, objective.output(model))
    return captured
