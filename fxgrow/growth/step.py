"""One growth step, the compiler's table of contents (DESIGN; Wu et al. 2020, Algorithm 1, steps 2 and 3).

capture -> couple -> over-grow -> relax and score (the method's search) -> select -> descend -> emit -> verify -> spec
"""

import copy
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.optim import Optimizer

from fxgrow.capture import capture
from fxgrow.coupling import Coupling, couple
from fxgrow.errors import GrowthError, Refusal
from fxgrow.growth.budget import Budget, Selection, select
from fxgrow.growth.emit import emit
from fxgrow.growth.method import Method
from fxgrow.growth.objective import Batch, Loss, Objective
from fxgrow.growth.promises import descend, keep
from fxgrow.growth.realise import changes_of, fillings_of
from fxgrow.rewrite import OverGrown, overgrow
from fxgrow.spec import ArchitectureSpec, GrowthStep, MethodRecord, WidthChange, describe


@dataclass(frozen=True)
class GrowthReport:
    """What one growth did. Losses are means over the growth batches in evaluation mode; seconds are wall time."""

    loss_before: float
    loss_after: float
    faithful_error: float
    preservation_error: float
    backtracks: int
    params_before: int
    params_after: int
    multiply_adds_before: int
    multiply_adds_after: int
    widths: tuple[WidthChange, ...]
    refusals: dict[str, Refusal]
    edits: dict[str, int]
    timings: dict[str, float]

    @property
    def seconds(self) -> float:
        return sum(self.timings.values())


@dataclass(frozen=True)
class Growth:
    """A grown copy of the caller's model (``module``, of the same class), its graph, its optimiser and its spec."""

    module: nn.Module
    graph_module: fx.GraphModule
    optimizer: Optimizer | None
    spec: ArchitectureSpec
    report: GrowthReport
    graphs: dict[str, str] = field(repr=False)


@dataclass
class Clock:
    """Wall time per named phase."""

    phases: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.phases[name] = time.perf_counter() - start


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
    objective, clock, generator = Objective.of(batches, loss), Clock(), torch.Generator().manual_seed(seed)
    work, grown_optimizer = copy.deepcopy((model, optimizer))
    with _for_growth(work):
        with clock.phase("capture"):
            captured = capture(work, example_inputs)
        with clock.phase("couple"):
            coupling = couple(captured)
            count = _affordable(coupling, budget)
        with clock.phase("overgrow"):
            neighbourhood = method.neighbourhood(coupling)
            grown = overgrow(captured, coupling, neighbourhood.split, neighbourhood.new, generator)
            _require_candidates(coupling, grown)
        with clock.phase("search"):
            before = objective.mean(captured.graph_module)
            scores = method.search(grown, objective, generator)
        with clock.phase("select"):
            selection = select(scores, count)
            backtracks, _ = descend(grown, selection, objective, before)
        with clock.phase("emit"):
            parent = describe(captured.graph_module, example_inputs, widths=coupling.widths)
            graphs = {"overgrown": dump(grown.graph_module)}
            expected, old = objective.output(grown.graph_module), objective.output(captured.graph_module)
            still = copy.deepcopy(work)
            changes, fillings = changes_of(coupling, grown, selection), fillings_of(coupling, grown, selection)
            emit(still, coupling, changes, fillings_of(coupling, grown, selection, scale=0.0))
            emit(work, coupling, changes, fillings, grown_optimizer)
        with clock.phase("verify"):
            preserved = keep("function-preserving at eps = 0", objective.output(still), old)
            faithful = keep("faithful to the over-grown graph", objective.output(work), expected)
            keep("the same as its own graph", objective.output(captured.graph_module), objective.output(work))
            after = objective.mean(work)
    graphs["emitted"] = dump(captured.graph_module)
    widths = _width_changes(coupling, grown, selection)
    emitted = describe(captured.graph_module, example_inputs, widths=couple(captured).widths)
    step = GrowthStep(
        parent=parent.fingerprint,
        method=MethodRecord(name=type(method).__name__, settings=method.model_dump()),
        budget=budget.model_dump(),
        widths=widths,
        cost_before=parent.cost,
        cost_after=emitted.cost,
        faithful_error=faithful,
        preservation_error=preserved,
        loss_before=before,
        loss_after=after,
        backtracks=backtracks,
    )
    spec = emitted.model_copy(update={"history": (*history, step)})
    report = GrowthReport(
        loss_before=before,
        loss_after=after,
        faithful_error=faithful,
        preservation_error=preserved,
        backtracks=backtracks,
        params_before=parent.cost.parameters,
        params_after=emitted.cost.parameters,
        multiply_adds_before=parent.cost.multiply_adds,
        multiply_adds_after=emitted.cost.multiply_adds,
        widths=widths,
        refusals=_refusals(coupling, grown),
        edits=dict(grown.edits),
        timings=clock.phases,
    )
    return Growth(work, captured.graph_module, grown_optimizer, spec, report, graphs)


@contextmanager
def _for_growth(work: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients for base parameters while candidates are searched; restored afterwards."""
    training = {module: module.training for module in work.modules()}
    learning = {parameter: parameter.requires_grad for parameter in work.parameters()}
    work.eval()
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, flag in learning.items():
            parameter.requires_grad_(flag)
        for module, training_flag in training.items():
            module.training = training_flag


def _affordable(coupling: Coupling, budget: Budget) -> int:
    if not any(width.growable for width in coupling.widths):
        reasons = "; ".join(f"{w.name}: {w.refusal.reason}" for w in coupling.widths[:5] if w.refusal)
        raise GrowthError("nothing-growable", f"no width of the model can grow ({reasons})")
    return budget.count(coupling)


def _require_candidates(coupling: Coupling, grown: OverGrown) -> None:
    if not grown.candidates.split and not grown.candidates.new:
        reasons = "; ".join(f"{coupling.widths[n].name}: {r.reason}" for n, r in list(grown.refusals.items())[:5])
        raise GrowthError("no-candidates", f"no candidate could be inserted ({reasons or 'the method proposes none'})")


def _width_changes(coupling: Coupling, grown: OverGrown, selection: Selection) -> tuple[WidthChange, ...]:
    changes = changes_of(coupling, grown, selection)
    return tuple(
        WidthChange(
            width=coupling.widths[n].name,
            before=coupling.widths[n].size,
            after=change.size,
            split=sum(times - 1 for times in change.times),
            new=change.fresh,
            scores=selection.chosen_scores(grown.candidates, n),
        )
        for n, change in changes.items()
    )


def _refusals(coupling: Coupling, grown: OverGrown) -> dict[str, Refusal]:
    """Why the widths that did not take part did not."""
    found = {width.name: width.refusal for width in coupling.widths if width.refusal}
    return found | {coupling.widths[n].name: refusal for n, refusal in grown.refusals.items()}


def dump(graph_module: fx.GraphModule) -> str:
    """An fx graph as text, with the provenance of every inserted node."""
    lines = []
    for node in graph_module.graph.nodes:
        origin = node.meta.get("fxgrow")
        note = f"  # {origin.rule} {origin.width} {origin.lane}".rstrip() if origin else ""
        lines.append(f"{node.format_node()}{note}")
    return "\n".join(lines) + "\n"
