"""The widths and layers that differ between two specifications, with what the history records."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import prod

from fxgrow.spec.diff.align import Alignment
from fxgrow.spec.diff.graph_view import node_operands
from fxgrow.spec.diff.records import LayerDiff, WidthDiff
from fxgrow.spec.models import (
    ArchitectureSpec,
    GrowthStep,
    LayerInsertion,
    NodeSpec,
    WidthChange,
    WidthSpec,
)

StepRange = tuple[GrowthStep, ...]


def steps_between(a: ArchitectureSpec, b: ArchitectureSpec) -> tuple[StepRange, bool]:
    """Find the growth steps that lead from one specification to the other.

    Args:
        a: The first specification.
        b: The second.

    Returns:
        The steps, none if neither descends from the other; and whether they lead from ``a`` to
        ``b`` and not back.
    """
    backward = _steps_from(b, a)
    return (backward, False) if backward else (_steps_from(a, b), True)


def _steps_from(ancestor: ArchitectureSpec, spec: ArchitectureSpec) -> StepRange:
    """The end of the history of ``spec`` that starts at ``ancestor``."""
    if ancestor.fingerprint == spec.fingerprint:
        return ()
    # Each step records the fingerprint that it started from.
    for index, step in enumerate(spec.history):
        if step.parent == ancestor.fingerprint:
            return spec.history[index:]
    return ()


def layer_diffs(
    a: ArchitectureSpec, b: ArchitectureSpec, alignment: Alignment, steps: StepRange, forward: bool
) -> tuple[LayerDiff, ...]:
    """Find the layers that growth steps inserted and that are still there.

    Args:
        a: The first specification.
        b: The second.
        alignment: What they have in common.
        steps: The growth steps between them.
        forward: Whether the steps lead from ``a`` to ``b``.

    Returns:
        The layers with the nodes that they consist of.
    """
    grown = b if forward else a
    common_nodes = set(alignment.nodes.values() if forward else alignment.nodes)
    new_nodes = [node for node in grown.nodes if node.name not in common_nodes]
    layers: list[LayerDiff] = []
    for step in steps:
        found = [_layer_diff(grown, record, new_nodes) for record in step.layers]
        for blocks in step.blocks:
            # Blocks of a list are alike, so which of them are new is what the alignment says.
            found += [_block_diff(grown, path, new_nodes) for path in blocks.paths]
        layers += [layer for layer in found if layer is not None]
    if forward:
        return tuple(layers)
    return tuple(layer.model_copy(update={"change": "removed"}) for layer in layers)


def _block_diff(
    spec: ArchitectureSpec, path: str, new_nodes: Sequence[NodeSpec]
) -> LayerDiff | None:
    """A copied block with its nodes; None if it is no longer there."""
    nodes = _nodes_of_block(path, new_nodes)
    if not nodes:
        return None
    inputs = _outer_operands(nodes, {node.name for node in nodes})
    shapes = [item.shape for item in spec.parameters if is_inside(item.name, path)]
    return LayerDiff(
        name=path,
        after=inputs[0] if inputs else "",
        neurons=sum(width.size for width in spec.widths if is_inside(width.name, path)),
        form="block",
        nodes=tuple(node.name for node in nodes),
        parameters=sum(map(prod, shapes)),
    )


def _nodes_of_block(path: str, new_nodes: Sequence[NodeSpec]) -> list[NodeSpec]:
    """The nodes of a block; what stands between two calls of modules belongs to the first."""
    nodes: list[NodeSpec] = []
    # Nodes before all calls belong to the first block.
    is_inside_block = True
    for node in new_nodes:
        if node.op == "call_module":
            is_inside_block = _is_part(node.target, path)
            # They do not, if the first call is that of another block.
            if not is_inside_block and not any(each.op == "call_module" for each in nodes):
                nodes.clear()
        if is_inside_block:
            nodes.append(node)
    return nodes if any(node.op == "call_module" for node in nodes) else []


def _is_part(name: str, outer: str) -> bool:
    return name == outer or is_inside(name, outer)


def _layer_diff(
    spec: ArchitectureSpec, record: LayerInsertion, new_nodes: Sequence[NodeSpec]
) -> LayerDiff | None:
    """The layer with its nodes; None if it is no longer there."""
    calls: list[NodeSpec] = []
    for node in new_nodes:
        if node.op == "call_module" and is_inside(node.target, record.name):
            calls.append(node)
    call_names = {node.name for node in calls}
    inputs = _outer_operands(calls, call_names)
    if not inputs:
        return None
    # The layer consists of the nodes that call its modules and of the sum that reads them.
    layer_nodes: list[str] = []
    for node in new_nodes:
        reads_layer = not call_names.isdisjoint(node_operands(node))
        if node.name in call_names or (node.op != "call_module" and reads_layer):
            layer_nodes.append(node.name)
    sizes = [width.size for width in spec.widths if is_inside(width.name, record.name)]
    shapes = [item.shape for item in spec.parameters if is_inside(item.name, record.name)]
    return LayerDiff(
        name=record.name,
        after=inputs[0],
        # The layer may have grown since it was inserted.
        neurons=sizes[0] if sizes else record.neurons,
        form=record.form,
        norm=record.norm,
        score=record.score,
        nodes=tuple(layer_nodes),
        parameters=sum(map(prod, shapes)),
    )


def _outer_operands(nodes: Sequence[NodeSpec], inner_names: set[str]) -> list[str]:
    """What nodes read, in order, except for each other."""
    outer: list[str] = []
    for node in nodes:
        for operand in node_operands(node):
            if operand not in inner_names:
                outer.append(operand)
    return outer


def is_inside(name: str, outer: str) -> bool:
    """Whether a name is that of something within a module."""
    return name.startswith(f"{outer}.")


def width_diffs(
    a: ArchitectureSpec,
    b: ArchitectureSpec,
    alignment: Alignment,
    steps: StepRange,
    layers: Sequence[LayerDiff],
) -> Mapping[str, WidthDiff]:
    """Find the widths whose sizes differ or that grew on the way.

    Args:
        a: The first specification.
        b: The second.
        alignment: What they have in common.
        steps: The growth steps from ``a`` to ``b``.
        layers: The layers that were inserted; widths inside them are left out.

    Returns:
        Name -> difference.
    """
    diffs: dict[str, WidthDiff] = {}
    for old, new in _paired_widths(a.widths, b.widths, alignment.tensors):
        width = _width_diff(old, new, steps)
        is_in_layer = any(is_inside(width.name, layer.name) for layer in layers)
        has_changed = width.before != width.after or width.origin == "history"
        if has_changed and not is_in_layer:
            diffs[width.name] = width
    costs = _parameter_costs(a, b, alignment.tensors, diffs)
    return {
        name: width.model_copy(update={"parameters": costs[name]}) for name, width in diffs.items()
    }


WidthPair = tuple[WidthSpec | None, WidthSpec | None]
"""A width before and after; None: it does not exist there."""


def _paired_widths(
    olds: Sequence[WidthSpec], news: Sequence[WidthSpec], new_tensor_of: Mapping[str, str]
) -> list[WidthPair]:
    """Widths with partners in the order of the second side, then new ones, then removed ones."""
    olds_by_name = {width.name: width for width in olds}
    news_by_name = {width.name: width for width in news}
    new_name_of = _width_partners(olds, news, new_tensor_of)
    old_name_of = {new: old for old, new in new_name_of.items()}
    paired: list[WidthPair] = []
    added: list[WidthPair] = []
    removed: list[WidthPair] = []
    for name, new in news_by_name.items():
        if name in old_name_of:
            paired.append((olds_by_name[old_name_of[name]], new))
        else:
            added.append((None, new))
    for name, old in olds_by_name.items():
        if name not in new_name_of:
            removed.append((old, None))
    return paired + added + removed


def _width_diff(old: WidthSpec | None, new: WidthSpec | None, steps: StepRange) -> WidthDiff:
    changes = _changes_of(new.name, steps) if new else []
    neurons: list[int] = []
    scores: list[float] = []
    for change in changes:
        neurons.extend(change.neurons)
        scores.extend(change.scores)
    names = [width.name for width in (new, old) if width]
    return WidthDiff(
        name=names[0],
        was=old.name if old and old.name != names[0] else None,
        before=old.size if old else None,
        after=new.size if new else None,
        origin="history" if changes else "unknown",
        split=sum(change.split for change in changes),
        new=sum(change.new for change in changes),
        neurons=tuple(neurons),
        scores=tuple(scores),
        score=sum(scores) if scores else None,
    )


def _changes_of(width: str, steps: StepRange) -> list[WidthChange]:
    changes: list[WidthChange] = []
    for step in steps:
        for change in step.widths:
            if change.width == width:
                changes.append(change)
    return changes


def _width_partners(
    olds: Iterable[WidthSpec], news: Sequence[WidthSpec], new_tensor_of: Mapping[str, str]
) -> dict[str, str]:
    """Old name -> new name of the width that shares most sites; of several, that of its own name.

    Widths without sites, as in specs that were described without a coupling, go by name alone.
    """
    widths_at = sites_of(news)
    free = {width.name for width in news}
    new_name_of: dict[str, str] = {}
    for width in olds:
        votes: Counter[str] = Counter()
        for site in width.sites:
            new_tensor = new_tensor_of.get(site.parameter, "")
            for name in widths_at.get((new_tensor, site.axis), ()):
                if name in free:
                    votes[name] += 1
        best = _most_votes(votes, width.name)
        if best in free:
            new_name_of[width.name] = best
            free.remove(best)
    return new_name_of


def _most_votes(votes: Counter[str], own_name: str) -> str:
    """The name with most votes; the own name among equals, and if there are no votes at all."""
    return max(votes, key=lambda name: (votes[name], name == own_name), default=own_name)


def _parameter_costs(
    a: ArchitectureSpec,
    b: ArchitectureSpec,
    new_tensor_of: Mapping[str, str],
    diffs: Mapping[str, WidthDiff],
) -> Counter[str]:
    """How many parameters more each width costs if the other widths stay at their old sizes.

    Widths on one axis (as after a concatenation) share its new indices.
    """
    old_shapes = {new_tensor_of.get(p.name): p.shape for p in a.parameters if p.tied_to is None}
    new_shapes = {parameter.name: parameter.shape for parameter in b.parameters}
    costs: Counter[str] = Counter()
    for (tensor, axis), widths in sites_of(b.widths).items():
        old_shape, new_shape = old_shapes.get(tensor, ()), new_shapes.get(tensor, ())
        added = {width: added_neurons(diffs[width]) for width in widths if width in diffs}
        total = sum(added.values())
        if len(old_shape) != len(new_shape) or not old_shape or not old_shape[axis] or not total:
            continue
        # One index of the axis has this many elements, all other axes at their old sizes.
        elements_per_index = prod(old_shape) // old_shape[axis]
        new_indices = new_shape[axis] - old_shape[axis]
        for width, neurons in added.items():
            costs[width] += elements_per_index * new_indices * neurons // total
    return costs


def sites_of(widths: Iterable[WidthSpec]) -> dict[tuple[str, int], list[str]]:
    """(tensor, axis) -> the names of the widths there."""
    widths_at: dict[tuple[str, int], list[str]] = {}
    for width in widths:
        for site in width.sites:
            # Several widths share an axis where their values were concatenated.
            widths_at.setdefault((site.parameter, site.axis), []).append(width.name)
    return widths_at


def added_neurons(width: WidthDiff) -> int:
    """How many neurons a width has more; 0 if it does not exist on both sides."""
    if width.before is None or width.after is None:
        return 0
    return width.after - width.before
