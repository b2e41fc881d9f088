"""What a growth step did, as data: for the caller, and for the history in the specification."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fxgrow.capture import Captured
from fxgrow.coupling import Width
from fxgrow.errors import Refusal, SpecError
from fxgrow.growth.affordable_costs import countable_multiply_adds
from fxgrow.growth.batch_roles import BatchRoles
from fxgrow.growth.budget import Budget, ResolvedBudget
from fxgrow.growth.candidate_counts import unspent_for_want_of_candidates
from fxgrow.growth.lineage import width_record
from fxgrow.growth.method import Method
from fxgrow.growth.plan import Plan, budget_plan
from fxgrow.growth.prepare import PreparedModel
from fxgrow.growth.result import GrowthReport
from fxgrow.growth.search import SearchResult
from fxgrow.growth.statistics import BatchNormGap
from fxgrow.growth.verify import Emission
from fxgrow.spec import (
    ArchitectureSpec,
    GrowthStep,
    LayerInsertion,
    MethodRecord,
    WidthChange,
    describe,
)


@dataclass(frozen=True)
class Description:
    """What is known of a model before or after a growth.

    Args:
        parameters: the number of elements of its parameters.
        multiply_adds: of one pass of the example inputs; None if they are not known.
        spec: its specification, or why it has none.
        unknown: why the multiply-adds are not known; "" if they are.
    """

    parameters: int
    multiply_adds: int | None
    spec: ArchitectureSpec | SpecError
    unknown: str = ""


@dataclass(frozen=True)
class Measured:
    """What is measured for the report alone.

    Args:
        held_out_before: mean loss on the held-out batches before growth.
        held_out_after: the same of the grown model.
        gap: how far batch statistics move the loss; None without batch norm.
        stale_loss: the held-out loss before the statistics of batch norms were refreshed; None if
            none were.
        roles: which batches served what.
        picked: why the method that grew was picked; "" if the caller chose it.
    """

    held_out_before: float
    held_out_after: float
    gap: BatchNormGap | None
    stale_loss: float | None = None
    roles: BatchRoles | None = None
    picked: str = ""


def describe_if_possible(
    captured: Captured, widths: Sequence[Width] | None, costs: bool = True
) -> Description:
    """Describe a captured model, if it can have a specification, and count what it costs.

    Args:
        captured: the model.
        widths: its widths; None if the caller wants no specification.
        costs: whether to count without a specification.

    Returns:
        The cost, and the specification or a ``SpecError`` (its graph calls what none may call).
    """
    if widths is not None:
        try:
            inputs = captured.example_inputs
            spec = describe(captured.graph_module, inputs, widths=widths)
        except SpecError as error:
            return _only_costs(captured, error, costs)
        return Description(spec.cost.parameters, spec.cost.multiply_adds, spec)
    reason = "the growth step was asked for no specification; leave out describe=False"
    return _only_costs(captured, SpecError("not-described", reason), costs)


def _only_costs(captured: Captured, why: SpecError, costs: bool) -> Description:
    """A description without a specification, and without costs where they are not to be had."""
    counted, unknown = countable_multiply_adds(captured, costs)
    parameters = sum(parameter.numel() for parameter in captured.graph_module.parameters())
    return Description(parameters, counted, why, unknown)


def grown_spec(
    before: Description,
    after: Description,
    history: Sequence[GrowthStep],
    step: GrowthStep | None,
) -> ArchitectureSpec | SpecError:
    """The specification of the grown model, with this step at the end of its history."""
    if isinstance(before.spec, SpecError):
        return before.spec
    if isinstance(after.spec, SpecError) or step is None:
        return after.spec
    return after.spec.model_copy(update={"history": (*history, step)})


def growth_step(
    method: Method,
    budget: Budget,
    resolved: ResolvedBudget,
    prepared: PreparedModel,
    result: SearchResult,
    emission: Emission,
    measured: Measured,
    before: Description,
    after: Description,
) -> GrowthStep | None:
    """The step as the specification's history records it.

    None if one of both has no specification.
    """
    parent, child = before.spec, after.spec
    if isinstance(parent, SpecError) or isinstance(child, SpecError):
        return None
    widths = prepared.coupling.widths
    ties = []
    for tie in resolved.ties:
        ties.append(tuple(widths[number].name for number in tie))
    settings = method.model_dump(mode="json")
    return GrowthStep(
        parent=parent.fingerprint,
        method=MethodRecord(name=type(method).__name__, settings=settings),
        budget=budget.model_dump(exclude_defaults=True),
        widths=_grown_widths(prepared, result),
        layers=_inserted_layers(prepared, result),
        ties=tuple(ties),
        cost_before=parent.cost,
        cost_after=child.cost,
        faithful_error=emission.faithful_error,
        preservation_error=emission.preservation_error,
        loss_before=result.loss_before,
        loss_after=emission.loss_after,
        held_out_before=measured.held_out_before,
        held_out_after=measured.held_out_after,
        backtracks=result.backtracks,
    )


def growth_report(
    resolved: ResolvedBudget,
    prepared: PreparedModel,
    result: SearchResult,
    emission: Emission,
    measured: Measured,
    before: Description,
    after: Description,
    timings: dict[str, float],
    whole_plan: Callable[[Plan], Plan] | None = None,
) -> GrowthReport:
    """The step as the caller sees it.

    ``whole_plan`` adds to the plan for neurons what else was bought from the same budget.
    """
    widths = prepared.coupling.widths
    plan = budget_plan(prepared, result, resolved)
    if whole_plan is not None:
        plan = whole_plan(plan)
    groups = []
    for group in result.groups:
        groups.append(tuple(widths[number].name for number in group))
    return GrowthReport(
        loss_before=result.loss_before,
        loss_after=emission.loss_after,
        faithful_error=emission.faithful_error,
        preservation_error=emission.preservation_error,
        backtracks=result.backtracks,
        params_before=before.parameters,
        params_after=after.parameters,
        multiply_adds_before=before.multiply_adds,
        multiply_adds_after=after.multiply_adds,
        widths=_grown_widths(prepared, result),
        layers=_inserted_layers(prepared, result),
        plan=plan,
        unspent=unspent_for_want_of_candidates(prepared, result, resolved, plan),
        refusals=_refusals(prepared, result),
        edits=dict(result.overgrown.edits),
        timings=timings,
        config=emission.config,
        unchecked=emission.unchecked,
        jump=measured.gap,
        stale_loss=measured.stale_loss,
        held_out_before=measured.held_out_before,
        held_out_after=measured.held_out_after,
        batches=measured.roles,
        picked=measured.picked,
        chunks=tuple(groups),
        peak_memory=result.peak_memory,
        multiply_adds_overgrown=result.multiply_adds,
        costs_unknown=before.unknown or after.unknown or result.unknown,
        refined=result.refined,
    )


def _grown_widths(prepared: PreparedModel, result: SearchResult) -> tuple[WidthChange, ...]:
    """The model's own widths that grew, in their order."""
    records = []
    for number, change in result.width_changes.items():
        if number in prepared.layers:
            continue
        width = prepared.coupling.widths[number]
        scores = result.selection.chosen_scores(result.overgrown.candidates, number)
        records.append(width_record(width, change, scores))
    return tuple(records)


def _inserted_layers(prepared: PreparedModel, result: SearchResult) -> tuple[LayerInsertion, ...]:
    """The candidate layers that got neurons, in the order of their hidden widths."""
    records = []
    for number, change in result.width_changes.items():
        if number not in prepared.layers:
            continue
        layer = prepared.layers[number]
        scores = result.selection.chosen_scores(result.overgrown.candidates, number)
        record = LayerInsertion(
            name=layer.path,
            after=layer.after,
            score=sum(scores),
            neurons=change.size,
            form=layer.form.value,
            norm=layer.norm,
        )
        records.append(record)
    return tuple(records)


def _refusals(prepared: PreparedModel, result: SearchResult) -> dict[str, Refusal]:
    """Why widths took no part, by name: refused by coupling, or without a candidate."""
    refusals: dict[str, Refusal] = {}
    for width in prepared.coupling.widths:
        if width.refusal:
            refusals[width.name] = width.refusal
    for number, refusal in result.overgrown.refusals.items():
        refusals[prepared.coupling.widths[number].name] = refusal
    return refusals
