"""What a growth step did, as data: for its report, and for the history in the specification."""

from collections.abc import Sequence
from dataclasses import dataclass

from fxgrow.capture import Captured
from fxgrow.coupling import Coupling
from fxgrow.errors import Refusal, SpecError
from fxgrow.growth.budget import Budget, Tie
from fxgrow.growth.materialize import width_changes
from fxgrow.growth.method import Method
from fxgrow.growth.partition import SearchGroup
from fxgrow.growth.plan import Plan
from fxgrow.growth.prepare import PreparedModel
from fxgrow.growth.result import GrowthReport, Timer
from fxgrow.growth.select import Selection
from fxgrow.growth.statistics import BatchNormGap
from fxgrow.rewrite import OverGrown
from fxgrow.spec import (
    ArchitectureSpec,
    Cost,
    GrowthStep,
    LayerInsertion,
    MethodRecord,
    WidthChange,
    cost,
    describe,
)
from fxgrow.surgery import ConfigUpdate


@dataclass(frozen=True)
class Choice:
    """The over-grown graph with the unselected candidates off, what was selected, and the loss before."""

    grown: OverGrown
    selection: Selection
    loss_before: float
    backtracks: int
    groups: tuple[SearchGroup, ...]
    peak_memory: int
    multiply_adds: int
    refined: bool


@dataclass(frozen=True)
class Emission:
    """How well the promises were kept."""

    faithful_error: float
    preservation_error: float
    loss_after: float
    config: ConfigUpdate | None
    jump: BatchNormGap | None


@dataclass(frozen=True)
class Description:
    """What a model costs, and its specification, or why it has none (its graph calls what a spec may not call)."""

    cost: Cost
    spec: ArchitectureSpec | SpecError


def describe_if_possible(captured: Captured, coupling: Coupling) -> Description:
    """The specification of a captured model, if it can have one."""
    inputs = captured.example_inputs
    try:
        spec = describe(captured.graph_module, inputs, widths=coupling.widths)
    except SpecError as error:
        return Description(cost(captured.graph_module, inputs), error)
    return Description(spec.cost, spec)


def without_description(captured: Captured) -> Description:
    """What a captured model costs, for a caller who wants no specification."""
    nothing = SpecError(
        "not-described", "the growth step was asked for no specification; leave out describe=False"
    )
    return Description(cost(captured.graph_module, captured.example_inputs), nothing)


@dataclass(frozen=True)
class FinishedStep:
    """A finished step."""

    method: Method
    budget: Budget
    base: PreparedModel
    chosen: Choice
    emitted: Emission
    old: Description
    new: Description
    ties: tuple[Tie, ...] = ()

    def spec(self, history: Sequence[GrowthStep]) -> ArchitectureSpec | SpecError:
        """The new model's specification with this step at the end of its history."""
        if isinstance(self.old.spec, SpecError):
            return self.old.spec
        if isinstance(self.new.spec, SpecError):
            return self.new.spec
        return self.new.spec.model_copy(update={"history": (*history, self._step(self.old.spec))})

    def _step(self, parent: ArchitectureSpec) -> GrowthStep:
        return GrowthStep(
            parent=parent.fingerprint,
            method=MethodRecord(
                name=type(self.method).__name__, settings=self.method.model_dump(mode="json")
            ),
            budget=self.budget.model_dump(exclude_defaults=True),
            widths=self._widths(),
            layers=self._layers(),
            ties=tuple(tuple(self.base.coupling.widths[n].name for n in tie) for tie in self.ties),
            cost_before=self.old.cost,
            cost_after=self.new.cost,
            faithful_error=self.emitted.faithful_error,
            preservation_error=self.emitted.preservation_error,
            loss_before=self.chosen.loss_before,
            loss_after=self.emitted.loss_after,
            backtracks=self.chosen.backtracks,
        )

    def _widths(self) -> tuple[WidthChange, ...]:
        grown, selection = self.chosen.grown, self.chosen.selection
        return tuple(
            WidthChange(
                width=self.base.coupling.widths[n].name,
                before=self.base.coupling.widths[n].size,
                after=change.size,
                split=sum(times - 1 for times in change.times),
                new=change.new,
                neurons=tuple(i for i, times in enumerate(change.times) for _ in range(times - 1)),
                scores=selection.chosen_scores(grown.candidates, n),
            )
            for n, change in width_changes(self.base.coupling, grown, selection).items()
            if n not in self.base.layers
        )

    def _layers(self) -> tuple[LayerInsertion, ...]:
        grown, selection = self.chosen.grown, self.chosen.selection
        return tuple(
            LayerInsertion(
                name=self.base.layers[n].path,
                after=self.base.layers[n].after,
                score=sum(selection.chosen_scores(grown.candidates, n)),
                neurons=change.size,
                form=self.base.layers[n].form.value,
                norm=self.base.layers[n].norm,
            )
            for n, change in width_changes(self.base.coupling, grown, selection).items()
            if n in self.base.layers
        )

    def _refusals(self) -> dict[str, Refusal]:
        """Why the widths that did not take part did not."""
        found = {width.name: width.refusal for width in self.base.coupling.widths if width.refusal}
        return found | {
            self.base.coupling.widths[n].name: one for n, one in self.chosen.grown.refusals.items()
        }

    def report(self, plan: Plan, clock: Timer) -> GrowthReport:
        """The step as the caller sees it."""
        return GrowthReport(
            loss_before=self.chosen.loss_before,
            loss_after=self.emitted.loss_after,
            faithful_error=self.emitted.faithful_error,
            preservation_error=self.emitted.preservation_error,
            backtracks=self.chosen.backtracks,
            params_before=self.old.cost.parameters,
            params_after=self.new.cost.parameters,
            multiply_adds_before=self.old.cost.multiply_adds,
            multiply_adds_after=self.new.cost.multiply_adds,
            widths=self._widths(),
            layers=self._layers(),
            plan=plan,
            refusals=self._refusals(),
            edits=dict(self.chosen.grown.edits),
            timings=clock.phases,
            config=self.emitted.config,
            jump=self.emitted.jump,
            chunks=tuple(
                tuple(self.base.coupling.widths[n].name for n in group)
                for group in self.chosen.groups
            ),
            peak_memory=self.chosen.peak_memory,
            multiply_adds_overgrown=self.chosen.multiply_adds,
            refined=self.chosen.refined,
        )
