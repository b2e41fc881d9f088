"""What changed between two specifications.

They are aligned first; then every change is classified, and attributed to the growth that caused
it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence

from fxgrow.argument_checks import checked
from fxgrow.spec.arguments import argument_text
from fxgrow.spec.diff.align import Alignment, align, order_key
from fxgrow.spec.diff.attribution import Attribution
from fxgrow.spec.diff.graph_view import node_constants, node_operands
from fxgrow.spec.diff.growth_history import layer_diffs, steps_between, width_diffs
from fxgrow.spec.diff.records import (
    CausedBy,
    InputDiff,
    ModuleDiff,
    NodeDiff,
    RenameDiff,
    SpecDiff,
    TensorDiff,
)
from fxgrow.spec.models import (
    ArchitectureSpec,
    BufferSpec,
    InputSpec,
    ModuleSpec,
    NodeSpec,
    ParameterSpec,
)


@checked
def diff(a: ArchitectureSpec, b: ArchitectureSpec) -> SpecDiff:
    """Find what has to be done to one architecture to get another.

    Nodes, modules, tensors and widths that were renamed or moved are recognized by what they
    compute. The costs are each for the example inputs of its own specification.

    Args:
        a: The first specification.
        b: The second.

    Returns:
        All differences by kind.

    Example:
        >>> difference = diff(read_spec("small"), read_spec("grown"))  # doctest: +SKIP
        >>> [(width.name, width.before, width.after) for width in difference.widths]
        ... # doctest: +SKIP
    """
    alignment = align(a, b)
    steps, forward = steps_between(a, b)
    layers = layer_diffs(a, b, alignment, steps, forward)
    widths = width_diffs(a, b, alignment, steps if forward else (), layers)
    attribution = Attribution(a, b, alignment, widths, layers)
    # Nodes of a layer are reported with the layer, not one by one.
    in_layers: set[str] = set()
    for layer in layers:
        in_layers.update(layer.nodes)
    return SpecDiff(
        inputs=tuple(_input_diffs(a.inputs, b.inputs)),
        widths=tuple(widths.values()),
        layers=layers,
        inserted=_names_without(b.nodes, {*alignment.nodes.values(), *in_layers}),
        removed=_names_without(a.nodes, {*alignment.nodes, *in_layers}),
        renamed=tuple(_rename_diffs(a, alignment)),
        moved=_moved(a, b, alignment.nodes),
        changed=tuple(_node_diffs(a, b, alignment.nodes, attribution)),
        modules=tuple(_module_diffs(a, b, alignment.modules, attribution)),
        tensors=tuple(_tensor_diffs(a, b, alignment.tensors, attribution)),
        steps=steps,
        forward=forward,
        cost_before=a.cost,
        cost_after=b.cost,
    )


def _names_without(nodes: Iterable[NodeSpec], excluded: set[str]) -> tuple[str, ...]:
    return tuple(node.name for node in nodes if node.name not in excluded)


def _input_diffs(a: Sequence[InputSpec], b: Sequence[InputSpec]) -> Iterator[InputDiff]:
    """Inputs are compared by position: their names do not matter."""
    for index in range(max(len(a), len(b))):
        old = a[index] if index < len(a) else None
        new = b[index] if index < len(b) else None
        before = _input_text(old) if old else None
        after = _input_text(new) if new else None
        if before != after:
            names = [item.name for item in (new, old) if item]
            yield InputDiff(name=names[0], before=before, after=after)


def _input_text(item: InputSpec) -> str:
    return f"{item.dtype}{list(item.shape)}"


def _rename_diffs(a: ArchitectureSpec, alignment: Alignment) -> Iterator[RenameDiff]:
    for module in a.modules:
        new_name = alignment.modules.get(module.name, module.name)
        if new_name != module.name:
            yield RenameDiff(what="module", before=module.name, after=new_name)
    for node in a.nodes:
        new_name = alignment.nodes.get(node.name, node.name)
        if new_name != node.name:
            yield RenameDiff(what="node", before=node.name, after=new_name)


def _moved(
    a: ArchitectureSpec, b: ArchitectureSpec, new_node_of: Mapping[str, str]
) -> tuple[str, ...]:
    """The fewest nodes without which all others are in the same order, by their names in ``b``."""
    # The common nodes by their new names, in the order of the first side.
    common = [new_node_of[node.name] for node in a.nodes if node.name in new_node_of]
    new_positions = {node.name: index for index, node in enumerate(b.nodes)}
    old_positions = {name: index for index, name in enumerate(common)}
    # Of several longest sequences, the same one is chosen in both directions.
    if order_key(a) > order_key(b):
        in_new_order = [node.name for node in b.nodes if node.name in old_positions]
        in_order = _longest_rising([old_positions[name] for name in in_new_order])
        return tuple(name for name in common if old_positions[name] not in in_order)
    in_order = _longest_rising([new_positions[name] for name in common])
    return tuple(name for name in common if new_positions[name] not in in_order)


def _longest_rising(numbers: Sequence[int]) -> set[int]:
    """A longest rising subsequence of distinct numbers, by patience sorting.

    ``ends[k]`` is the smallest number at which a rising subsequence of length k + 1 can end, so
    ``ends`` is sorted, and every number extends a subsequence that ends at the next smaller one.
    """
    ends: list[int] = []
    predecessor: dict[int, int | None] = {}
    for number in numbers:
        length = bisect_left(ends, number)
        predecessor[number] = ends[length - 1] if length else None
        ends[length : length + 1] = [number]
    # From the end of the longest subsequence back to its start.
    members: set[int] = set()
    last = ends[-1] if ends else None
    while last is not None:
        members.add(last)
        last = predecessor[last]
    return members


def _node_diffs(
    a: ArchitectureSpec,
    b: ArchitectureSpec,
    new_node_of: Mapping[str, str],
    attribution: Attribution,
) -> Iterator[NodeDiff]:
    new_nodes = {node.name: node for node in b.nodes}
    for old in a.nodes:
        new = new_nodes.get(new_node_of.get(old.name, ""))
        if new is None:
            continue
        before, after = _node_text(old), _node_text(new)
        old_operands = [new_node_of.get(name) for name in node_operands(old)]
        if old_operands != list(node_operands(new)):
            yield NodeDiff(
                kind="rewired",
                name=new.name,
                before=before,
                after=after,
                caused_by=attribution.of_operands(old, new),
            )
        old_constants, new_constants = node_constants(old), node_constants(new)
        if old_constants != new_constants:
            yield NodeDiff(
                kind="arguments",
                name=new.name,
                before=before,
                after=after,
                caused_by=attribution.of_numbers(old_constants, new_constants),
            )


def _node_text(node: NodeSpec) -> str:
    """A node as a call: ``call_method clamp(x, max=3.0)``."""
    texts = [argument_text(argument) for argument in node.args]
    for keyword, argument in sorted(node.kwargs.items()):
        texts.append(f"{keyword}={argument_text(argument)}")
    return f"{node.op} {node.target}({', '.join(texts)})"


def _module_diffs(
    a: ArchitectureSpec,
    b: ArchitectureSpec,
    new_module_of: Mapping[str, str],
    attribution: Attribution,
) -> Iterator[ModuleDiff]:
    old_modules = {module.name: _attributes(module) for module in a.modules}
    new_modules = {module.name: _attributes(module) for module in b.modules}
    for old_name, new_name in _all_pairs(old_modules, new_modules, new_module_of):
        old_attributes = old_modules.get(old_name or "", {})
        new_attributes = new_modules.get(new_name or "", {})
        name = new_name or old_name or ""
        if old_attributes and new_attributes:
            yield from _attribute_diffs(name, old_attributes, new_attributes, attribution)
        else:
            # A module that only one side has is one change, not one for each of its arguments.
            before, after = old_attributes.get("type"), new_attributes.get("type")
            if before != after:
                yield ModuleDiff(
                    name=name,
                    attribute="type",
                    before=before,
                    after=after,
                    caused_by=attribution.of_new(name),
                )


def _attribute_diffs(
    module: str, old: Mapping[str, str], new: Mapping[str, str], attribution: Attribution
) -> Iterator[ModuleDiff]:
    """The attributes that differ, in the order of the first side, then of the second."""
    for attribute in dict.fromkeys((*old, *new)):
        before, after = old.get(attribute), new.get(attribute)
        if before != after:
            causes = attribution.of_attribute(module, attribute, before or "", after or "")
            yield ModuleDiff(
                name=module, attribute=attribute, before=before, after=after, caused_by=causes
            )


def _attributes(module: ModuleSpec) -> dict[str, str]:
    """The class and the constructor's arguments, as text."""
    attributes = {"type": module.type}
    for name, argument in module.config.items():
        attributes[name] = argument_text(argument)
    return attributes


def _all_pairs(
    olds: Iterable[str], news: Iterable[str], new_name_of: Mapping[str, str]
) -> Iterator[tuple[str | None, str | None]]:
    """Every name of the first side with its partner, then those that only the second side has."""
    for old in olds:
        yield old, new_name_of.get(old)
    partners = set(new_name_of.values())
    for new in news:
        if new not in partners:
            yield None, new


def _tensor_diffs(
    a: ArchitectureSpec,
    b: ArchitectureSpec,
    new_tensor_of: Mapping[str, str],
    attribution: Attribution,
) -> Iterator[TensorDiff]:
    olds = {item.name: item for item in a.tensors}
    news = {item.name: item for item in b.tensors}
    for old_name, new_name in _all_pairs(olds, news, new_tensor_of):
        old, new = olds.get(old_name or ""), news.get(new_name or "")
        before = old.shape if old else None
        after = new.shape if new else None
        name = new_name or old_name or ""
        properties: tuple[str, ...] = ()
        caused_by: CausedBy = ()
        if old is None or new is None:
            caused_by = attribution.of_new(name)
        else:
            properties = tuple(_property_diffs(old, new, new_tensor_of))
            # Growth changes shapes and nothing else.
            if before != after and not properties:
                caused_by = attribution.of_shape(name)
        if before != after or properties:
            yield TensorDiff(
                name=name, before=before, after=after, properties=properties, caused_by=caused_by
            )


def _property_diffs(
    old: ParameterSpec | BufferSpec,
    new: ParameterSpec | BufferSpec,
    new_tensor_of: Mapping[str, str],
) -> Iterator[str]:
    """What differs besides name and shape: dtype, requires_grad, persistent, tied_to."""
    before, after = old.model_dump(), new.model_dump()
    if old.tied_to is not None:
        # A tie to a tensor that was renamed is the same tie.
        before["tied_to"] = new_tensor_of.get(old.tied_to, old.tied_to)
    for key in dict.fromkeys((*before, *after)):
        if key not in ("name", "shape") and before.get(key) != after.get(key):
            yield f"{key} {before.get(key)} -> {after.get(key)}"
