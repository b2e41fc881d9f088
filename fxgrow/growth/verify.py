"""Emit what the search chose, and check that the result is what it has to be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from fxgrow.copying import copy_module
from fxgrow.errors import GrowthError
from fxgrow.growth.emit import emit
from fxgrow.growth.invariants import (
    MAX_ROUNDINGS,
    agreed_error,
    full_precision,
    relative_error,
    require_close,
)
from fxgrow.growth.materialize import parameter_updates
from fxgrow.growth.objective import Objective
from fxgrow.growth.prepare import PreparedModel
from fxgrow.growth.preservation import MAX_NOISE_RATIO, Preservation, excuse
from fxgrow.growth.rounding import Snapshot, require_same
from fxgrow.growth.search import SearchResult
from fxgrow.growth.statistics import estimate_statistics
from fxgrow.running import errors_as
from fxgrow.sharding import sharing_ranks
from fxgrow.surgery import (
    DEFAULT_TREATMENT,
    ConfigUpdate,
    StateTreatment,
    parameter_shapes,
    update_config,
)


@dataclass(frozen=True)
class Emission:
    """How well the grown model passed its checks.

    Args:
        faithful_error: relative error against the over-grown graph.
        preservation_error: relative error against the model before, with every eps at 0.
        loss_after: mean loss on the growth batches that candidates are scored on.
        config: what became of a Hugging Face style config; None if the model has none.
        unchecked: what excuses these errors if they are more than rounding alone ("" else).
    """

    faithful_error: float
    preservation_error: float
    loss_after: float
    config: ConfigUpdate | None
    unchecked: str = ""


def emit_and_verify(
    prepared: PreparedModel,
    result: SearchResult,
    objective: Objective,
    optimizers: Sequence[Optimizer] = (),
    treatment: StateTreatment = DEFAULT_TREATMENT,
) -> Emission:
    """Carry the selection out on the captured model in place, and run the checks on it.

    Args:
        prepared: holds the model that is changed.
        result: what the search chose. Running statistics of its new channels are estimated here.
        objective: holds the batch on which outputs are compared, and the loss.
        optimizers: their state is resized along with the parameters.
        treatment: what becomes of that state.

    Returns:
        The errors and the loss.

    Raises:
        GrowthError: ``broken-promise`` if a check fails.
    """
    coupling, model = prepared.coupling, prepared.captured.model
    overgrown, changes = result.overgrown, result.width_changes
    unlocked = not prepared.halves
    with full_precision():
        if not result.keeps_function:  # else they are those of the search still
            estimate_statistics(overgrown, objective, preserving=True)
        expected = objective.output(overgrown.graph_module)
        output_before = objective.output(model)
        preservation_error, unchecked = _preservation(prepared, result, objective, output_before)
        # What amplifies rounding at eps = 0 does so beside the graph, too.
        allowed = _excused(preservation_error) if unchecked else 0.0
        # Emission adds to parameters of the graph in place where neurons are unlocked.
        beside = _BesideGraph(overgrown.graph_module, expected, objective, allowed)
        if result.keeps_function:  # nothing was halved on the strength of that word
            promise = "what its method promises to keep"
            unchecked = beside.require(promise, model, output_before)[1] or unchecked
        shapes_before = parameter_shapes(model)
        updates = parameter_updates(coupling, overgrown, result.selection)
        emit(
            model,
            coupling,
            changes,
            updates,
            optimizers,
            treatment=treatment,
            unlocked=unlocked,
            twin_noise=result.twin_noise,
        )
        output = _output(model, objective)
        faithful_error, amplifies = beside.require(
            "faithful to the over-grown graph", model, output
        )
        sizes = ((len(change.times), change.size) for change in changes.values())
        config = update_config(model, shapes_before, sizes, prepared.captured.example_inputs)
        loss_after = objective.scoring.mean(model)
    unchecked = unchecked or amplifies
    return Emission(faithful_error, preservation_error, loss_after, config, unchecked)


class _BesideGraph:
    """The over-grown graph as it was before emission changed it, to compare models with.

    Args:
        graph: the over-grown graph.
        expected: its output.
        objective: holds the batch on which outputs are compared.
        allowed: a relative error that is excused.
    """

    def __init__(
        self, graph: nn.Module, expected: Any, objective: Objective, allowed: float
    ) -> None:
        self.graph, self.expected = Snapshot.of(graph), expected
        self.inputs, self.allowed = objective.first_inputs, allowed

    def require(self, check: str, model: nn.Module, output: Any) -> tuple[float, str]:
        """The relative error of a model's output against that of the graph, and what excuses it."""
        models = Snapshot.live(model), self.graph
        compared = output, self.expected
        return require_same(check, compared, models, self.inputs, self.allowed)


def _excused(preservation_error: float) -> float:
    """The error that is excused beside the graph: never more than rounding in float32.

    Else the check would say nothing of a model that loses all its digits.
    """
    coarse = MAX_ROUNDINGS * torch.finfo(torch.float32).eps
    return min(MAX_NOISE_RATIO * preservation_error, coarse)


def _preservation(
    prepared: PreparedModel, result: SearchResult, objective: Objective, output_before: Any
) -> tuple[float, str]:
    """The relative error of a growth with every eps at 0, and what excuses it.

    Args:
        prepared: holds the model before.
        result: what the search chose.
        objective: holds the batch on which outputs are compared.
        output_before: the output of the model before.
    """
    coupling, model = prepared.coupling, prepared.captured.model
    no_updates = parameter_updates(coupling, result.overgrown, result.selection, scale=0.0)

    def grow(copied: nn.Module) -> None:
        emit(copied, coupling, result.width_changes, no_updates, unlocked=not prepared.halves)

    # A model of its own: updates cannot be taken back to the bit.
    unchanged = copy_module(model)
    grow(unchanged)
    output, ranks = _output(unchanged, objective), sharing_ranks(model)
    try:
        check = "function-preserving at eps = 0"
        return require_close(check, output, output_before, ranks=ranks), ""
    except GrowthError:
        reason = excuse(Preservation.of(model, objective.first_inputs), model, grow)
        if not reason:
            raise
        return agreed_error(relative_error(output, output_before), ranks), reason


def _output(grown: nn.Module, objective: Objective) -> Any:
    """The output of a grown model, which runs unless coupling was wrong about its code."""
    what = "growth is undone, since the grown model does not run"
    advice = "leave the module that fails alone (ignore=), and report it"
    with errors_as(GrowthError, "broken-promise", what, advice):
        return objective.output(grown)
