"""Replay: from a first specification and a history of growth to the grown architecture, without data or weights.

A growth step is recorded as what it did to the widths and where it put layers (``GrowthStep``), so that doing the same
to the parent's graph gives the child's. Fingerprints prove it: every step names its parent.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import fx

from fxgrow.capture import Captured, capture
from fxgrow.coupling import Coupling, Width, couple
from fxgrow.errors import GrowthError, SpecError
from fxgrow.growth.emit import emit
from fxgrow.rewrite import DepthProposal, InsertionPoint, LayerForm, insert_layers, insertion_points
from fxgrow.spec import (
    ArchitectureSpec,
    GrowthStep,
    LayerInsertion,
    Trust,
    WidthChange,
    describe,
    meta_example_inputs,
    meta_module,
)
from fxgrow.surgery import Change

_NO_TRUST: Trust = frozenset()


def replay(
    first: ArchitectureSpec, history: Sequence[GrowthStep], *, trust: Trust = _NO_TRUST
) -> tuple[ArchitectureSpec, ...]:
    """The specs after each step of ``history``, beginning at ``first``, which must be the parent of the first step.

    Nothing but shapes is computed. Raises ``SpecError`` (``not-replayable``) at the first step that does not fit what
    was rebuilt so far.
    """
    module, specs = meta_module(first, trust=trust), [first]
    for number, step in enumerate(history):
        _require_parent(step, specs[-1], number)
        module = _grown(module, meta_example_inputs(first), step, number)
        specs.append(_described(module, first, (*specs[-1].history, step), trust))
    return tuple(specs[1:])


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


def _grown(
    module: fx.GraphModule, inputs: tuple[torch.Tensor, ...], step: GrowthStep, number: int
) -> fx.GraphModule:
    """One step further; the names of nodes are those of a new capture, as they were when the model grew."""
    captured = capture(module, inputs)
    coupling = couple(captured)
    try:
        deeper, layers = _deepened(captured, coupling, step.layers)
        coupling = couple(deeper) if layers else coupling
        emit(deeper.model, coupling, _changes(coupling, step.widths, layers), {})
    except GrowthError as error:
        raise _broken(number, str(error)) from error
    return capture(deeper.model, inputs).graph_module


def _deepened(
    captured: Captured, coupling: Coupling, inserted: Sequence[LayerInsertion]
) -> tuple[Captured, Mapping[str, LayerInsertion]]:
    """The captured model with blank layers where they were inserted, and these by the names of their widths."""
    layers = {}
    for layer in inserted:
        captured, made = insert_layers(
            captured, [_edge(captured, coupling, layer)], layer.norm or False
        )
        layers[made[0].width] = layer
    return captured, layers


def _edge(captured: Captured, coupling: Coupling, layer: LayerInsertion) -> InsertionPoint:
    form = LayerForm(layer.form) if layer.form else None
    edges = insertion_points(
        captured, coupling, DepthProposal(layer.neurons, (layer.after,), form, layer.norm or False)
    )
    edge = next((edge for edge in edges if edge.node == layer.after), None)
    if edge is None:
        raise GrowthError("no-edges", f"there is no edge {layer.after!r} to put {layer.name!r} at")
    return edge


def _changes(
    coupling: Coupling, widths: Sequence[WidthChange], layers: Mapping[str, LayerInsertion]
) -> dict[int, Change]:
    numbers = {width.name: number for number, width in enumerate(coupling.widths)}
    unknown = next((change.width for change in widths if change.width not in numbers), None)
    if unknown is not None:
        raise GrowthError("unknown-width", f"there is no width {unknown!r} any more")
    grown = {
        numbers[change.width]: _change(coupling.widths[numbers[change.width]], change)
        for change in widths
    }
    return grown | {
        numbers[name]: Change((0,) * coupling.widths[numbers[name]].size, layer.neurons)
        for name, layer in layers.items()
    }


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
    copies = Counter(change.neurons or (i % width.size for i in range(change.split)))
    return Change(tuple(1 + copies[i] for i in range(width.size)), change.new)
