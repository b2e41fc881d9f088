"""Replay: from a first specification and a history to the grown architecture, without weights.

``regrow`` does the same to a model of the caller's class.

A growth step is recorded as what it did to the widths and where it inserted layers
(``GrowthStep``), so that doing the same to the parent's graph gives the child's. Fingerprints prove
it: every step names its parent.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import fx, nn

from fxgrow.capture import Captured, capture
from fxgrow.coupling import (
    UNDER_NORMS,
    Coupling,
    Width,
    couple,
    free_for_multiples,
    free_for_new_neurons,
)
from fxgrow.errors import GrowthError, SpecError
from fxgrow.growth.deepen import insert_recorded
from fxgrow.growth.emit import emit
from fxgrow.growth.lineage import Lineage
from fxgrow.growth.replay_blocks import insert_in_graph
from fxgrow.modes import evaluation_mode
from fxgrow.rewrite import (
    DepthProposal,
    InsertionPoint,
    LayerForm,
    insert_layers,
    insertion_points,
    register_as_used,
)
from fxgrow.spec import (
    ArchitectureSpec,
    BlockInsertion,
    GrowthStep,
    LayerInsertion,
    Trust,
    WidthChange,
    describe,
    meta_example_inputs,
    meta_module,
)
from fxgrow.surgery import Change, parameter_shapes, update_config

_NO_TRUST: Trust = frozenset()


class _GrownParts(Protocol):
    """What of a growth step changes the architecture: a ``GrowthStep``, or a report of one."""

    @property
    def widths(self) -> Sequence[WidthChange]: ...
    @property
    def layers(self) -> Sequence[LayerInsertion]: ...
    @property
    def blocks(self) -> Sequence[BlockInsertion]: ...


def replay(
    first: ArchitectureSpec, history: Sequence[GrowthStep], *, trust: Trust = _NO_TRUST
) -> tuple[ArchitectureSpec, ...]:
    """Repeat a history of growth from a first specification; only shapes are computed.

    Args:
        first: the parent of the first step.
        history: the steps.
        trust: modules whose functions and classes the specification may name.

    Returns:
        The specification after each step.

    Raises:
        SpecError: ``not-replayable``, at the first step that does not fit what was rebuilt so far.
    """
    module = meta_module(first, trust=trust)
    specs = [first]
    for number, step in enumerate(history):
        _require_parent(step, specs[-1], number)
        module = _grown(module, meta_example_inputs(first), step, number).graph_module
        specs.append(_described(module, first, (*specs[-1].history, step), trust))
    return tuple(specs[1:])


def regrow(
    module: nn.Module,
    example_inputs: tuple[Any, ...],
    history: Lineage | Sequence[_GrownParts],
) -> nn.Module:
    """Let a model grow again as it did, for weights that are put into it afterwards.

    Args:
        module: the model before the first step; it is changed in place.
        example_inputs: its positional arguments.
        history: the steps: those of a spec, or the ``lineage`` of a result of ``widen`` or
            ``deepen``, which models without a specification have as well.

    Returns:
        The grown model, of the same class (a graph module if layers were inserted). Its weights are
        copies and zeros.

    Raises:
        SpecError: ``not-replayable``, at the first step that does not fit.

    Example:
        >>> grown = regrow(model, inputs, spec.history)
        >>> grown.load_state_dict(state)
    """
    steps: Sequence[_GrownParts] = history.steps if isinstance(history, Lineage) else history
    for number, step in enumerate(steps):
        known, training = set(module.modules()), module.training
        with evaluation_mode(module):
            shapes_before = parameter_shapes(module)
            grown = _grown(module, example_inputs, step, number).model
            sizes = ((change.before, change.after) for change in step.widths)
            update_config(grown, shapes_before, sizes, example_inputs)
        if isinstance(grown, fx.GraphModule) and step.layers:
            register_as_used(grown)
        for layer in step.layers:  # which is no candidate any more
            grown.get_submodule(layer.name).requires_grad_()
        for part in set(grown.modules()) - known:
            part.training = training
        module = grown
    return module


def _require_parent(step: GrowthStep, spec: ArchitectureSpec, number: int) -> None:
    if step.parent != spec.fingerprint:
        raise _broken(
            number,
            f"it grew from {step.parent[:12]}, but replaying so far gives {spec.fingerprint[:12]}",
        )


def _broken(number: int, reason: str) -> SpecError:
    return SpecError(
        "not-replayable",
        f"{reason}; replay from the spec that the history began with",
        f"history[{number}]",
    )


def _described(
    module: fx.GraphModule, first: ArchitectureSpec, history: Sequence[GrowthStep], trust: Trust
) -> ArchitectureSpec:
    inputs = meta_example_inputs(first)
    widths = couple(capture(module, inputs)).widths
    return describe(module, inputs, widths=widths, history=history, trust=trust)


def _grown(module: nn.Module, inputs: tuple[Any, ...], step: _GrownParts, number: int) -> Captured:
    """Carry one step out.

    The model is captured anew, because that is what named the nodes when the model grew.
    """
    captured = capture(module, inputs)
    coupling = couple(captured)
    try:
        if step.blocks:
            captured = _with_blocks(captured, coupling, step.blocks)
            coupling = couple(captured)
        deeper, layers = _deepened(captured, coupling, step.layers)
        coupling = couple(deeper) if layers else coupling
        coupling = _freed(deeper, coupling, step.widths)
        emit(deeper.model, coupling, _changes(coupling, step.widths, layers), {})
    except GrowthError as error:
        raise _broken(number, str(error)) from error
    return capture(deeper.model, inputs)


def _with_blocks(
    captured: Captured, coupling: Coupling, records: Sequence[BlockInsertion]
) -> Captured:
    """Make lists of blocks longer: in the model's own code, or in its graph if that is all."""
    model, inputs = captured.model, captured.example_inputs
    # A graph has no code that would run more blocks, so that its nodes are copied.
    if isinstance(model, fx.GraphModule):
        for record in records:
            insert_in_graph(captured.graph_module, record, coupling.shapes)
        return capture(captured.graph_module, inputs)
    insert_recorded(model, records, inputs)
    return capture(model, inputs)


def _freed(captured: Captured, coupling: Coupling, widths: Sequence[WidthChange]) -> Coupling:
    """The same widths, of which those under norms that grew may grow (``widen``)."""
    names, is_new = [], False
    for change in widths:
        width = coupling.by_name.get(change.width)
        if width is not None and width.refusal is not None and width.refusal.code in UNDER_NORMS:
            names.append(change.width)
            is_new |= change.new > 0
    if not names:
        return coupling
    examples = [captured.example_inputs]
    if is_new:
        return free_for_new_neurons(captured, coupling, names, examples)
    return free_for_multiples(captured, coupling, names, examples)


def _deepened(
    captured: Captured, coupling: Coupling, inserted: Sequence[LayerInsertion]
) -> tuple[Captured, Mapping[str, LayerInsertion]]:
    """Insert blank layers where the step did; gives them by the names of their hidden widths."""
    layers = {}
    for layer in inserted:
        point = _insertion_point(captured, coupling, layer)
        captured, made = insert_layers(captured, [point], layer.norm or False)
        layers[made[0].width] = layer
    return captured, layers


def _insertion_point(
    captured: Captured, coupling: Coupling, layer: LayerInsertion
) -> InsertionPoint:
    form = LayerForm(layer.form) if layer.form else None
    depth = DepthProposal(layer.neurons, (layer.after,), form, layer.norm or False)
    for point in insertion_points(captured, coupling, depth):
        if point.node == layer.after:
            return point
    raise GrowthError("no-edges", f"there is no edge {layer.after!r} to put {layer.name!r} at")


def _changes(
    coupling: Coupling, widths: Sequence[WidthChange], layers: Mapping[str, LayerInsertion]
) -> dict[int, Change]:
    numbers = coupling.number_of
    changes: dict[int, Change] = {}
    for change in widths:
        if change.width not in numbers:
            raise GrowthError("unknown-width", f"there is no width {change.width!r} any more")
        number = numbers[change.width]
        changes[number] = _change(coupling.widths[number], change)
    for name, layer in layers.items():
        blank_neurons = coupling.widths[numbers[name]].size
        changes[numbers[name]] = Change((0,) * blank_neurons, layer.neurons)
    return changes


def _change(width: Width, change: WidthChange) -> Change:
    if width.refusal:
        raise GrowthError(
            width.refusal.code, f"width {width.name!r} cannot grow here: {width.refusal.reason}"
        )
    if width.size != change.before:
        raise GrowthError(
            "unknown-width", f"width {width.name!r} has {width.size} neurons, not {change.before}"
        )
    # Version 1 did not say which neurons were split; for the architecture any will do.
    split_neurons = change.neurons or [i % width.size for i in range(change.split)]
    copies = Counter(split_neurons)
    times = [1 + copies[neuron] for neuron in range(width.size)]
    return Change(tuple(times), change.new)
