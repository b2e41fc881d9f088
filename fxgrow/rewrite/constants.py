"""Constants that a model makes on its way (``torch.zeros(n, h.shape[1])``): how lanes have theirs.

A constant holds no neurons, so no lane leads to it. But one that is combined with neurons, or into
which they are written (``out[rows] = expert(h[rows])``), has a place for each: so each lane needs
one of its own. Where the graph has sizes, it is made with those of the lane; in an exported graph,
where they are numbers, it is cut from the old one.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from fxgrow.capture import writes_in_place
from fxgrow.coupling import Coupling
from fxgrow.rewrite.candidates import Slots
from fxgrow.rewrite.context import RewriteContext
from fxgrow.rewrite.lane_sizes import dims_of_neurons, lane_constant, lane_size
from fxgrow.rewrite.lanes import NEW
from fxgrow.rewrite.linear_use import LinearUse
from fxgrow.rewrite.rewriter import Provenance


def holds_no_neurons(coupling: Coupling, node: fx.Node) -> bool:
    """Whether a node's value holds no neurons of any width."""
    return not coupling.carries.get(node.name)


def written_constants(context: RewriteContext) -> Mapping[fx.Node, frozenset[int]]:
    """The constants of a graph that neurons are written into.

    Args:
        context: the graph to be rewritten.

    Returns:
        The widths that are written into each of them, and into each node that writes into one
        before any neurons are there (``out.fill_(1)``).
    """
    written: dict[fx.Node, frozenset[int]] = {}
    nodes = context.old.graph.nodes
    writing = [node for node in nodes if node.args and writes_in_place(node, context.old)]
    for node in writing:
        widths = context.coupling.carries.get(node.name, frozenset())
        target: Any = node.args[0]
        # A view of a constant leads to the constant itself.
        while widths and _is_constant(context, target):
            written[target] = written.get(target, frozenset()) | widths
            target = target.args[0] if target.args else None
    for node in writing:
        if node.args[0] in written and holds_no_neurons(context.coupling, node):
            written[node] = written[node.args[0]]
    return written


_OPS_OF_CONSTANTS = ("call_function", "call_method", "get_attr")


def _is_constant(context: RewriteContext, value: object) -> bool:
    if not isinstance(value, fx.Node) or value.op not in _OPS_OF_CONSTANTS:
        return False
    return value.name not in context.tensorless and holds_no_neurons(context.coupling, value)


def written_lanes(
    context: RewriteContext, node: fx.Node, plus: fx.Node, new: dict[int, fx.Node]
) -> dict[int, fx.Node]:
    """Give a constant that neurons are written into a lane for each width of theirs.

    Args:
        context: the graph being rewritten.
        node: a node of the old graph.
        plus: its copy.
        new: the lanes that it has.

    Returns:
        The lanes with those that were missing, where it is known along which dimension they lie.
    """
    widths = context.written_constants.get(node, frozenset()) & context.candidates.new.keys()
    for width in sorted(widths - new.keys()):
        dims = dims_of_neurons(context, node, width)
        if len(dims) == 1:
            new[width] = _cut(context, width, plus, dims[0], lane_size(context, node, width, *dims))
    return new


def lane_argument(context: RewriteContext, node: fx.Node, width: int, argument: fx.Node) -> fx.Node:
    """An argument of the copy of a node in the lane of new neurons.

    Args:
        context: the graph being rewritten.
        node: a node of the old graph.
        width: the number of the width.
        argument: an argument of it.

    Returns:
        The argument in the lane; a constant beside the neurons has the lane's size.
    """
    lanes = context.env[argument]
    is_beside = is_pointwise(node.target) and _is_constant(context, argument)
    if width in lanes.new or not is_beside:
        return lanes.lane(width)
    shapes = context.coupling.shapes
    dims = dims_of_neurons(context, node, width)
    if len(dims) != 1 or argument.name not in shapes:
        return lanes.plus
    size, own_size = shapes[node.name].size, shapes[argument.name].size
    dim = dims[0] - len(size)  # counted from the last one, as constants are broadcast
    if len(own_size) < -dim or own_size[dim] != size[dim] or size[dim] == 1:
        return lanes.plus
    return _cut(context, width, lanes.plus, dim, lane_size(context, node, width, *dims))


_POINTWISE = ("add", "sub", "mul", "truediv", "div", "true_divide", "where", "maximum", "minimum")
"""Names of functions and methods with two operands that are combined element by element."""


def is_pointwise(target: Any) -> bool:
    """Whether a node of this target combines values element by element, as a sum or product."""
    if isinstance(target, torch._ops.OpOverload):
        return torch.Tag.pointwise in target.tags
    return _name(target) in _POINTWISE


def _name(target: Any) -> str:
    """The name of a function or method that a node calls; an operator's without its overload."""
    if isinstance(target, torch._ops.OpOverload):
        return str(target._schema.name.rpartition("::")[2])
    return target if isinstance(target, str) else str(getattr(target, "__name__", ""))


def constant_read(context: RewriteContext, use: LinearUse, slots: Slots) -> fx.Node:
    """What a layer reads of the new neurons of a width.

    Args:
        context: the graph being rewritten.
        use: the layer as a product.
        slots: its columns for them.

    Returns:
        Their lane; of a constant (the state that a recurrence starts from) as much as they need.
        Of a value without a lane the old neurons, with which the graph does not run.
    """
    lanes, dim = context.env[use.input], use.product.form.row_dim
    if slots.width in lanes.new or dim is None or not _is_constant(context, use.input):
        return lanes.lane(slots.width)
    return _cut(context, slots.width, lanes.plus, dim, len(slots.candidate))


def concatenated_lanes(
    context: RewriteContext, node: fx.Node, dim: int, new: dict[int, fx.Node]
) -> dict[int, fx.Node]:
    """Give a constant that stands for neurons in a concatenation (a first state) its lanes.

    Args:
        context: the graph being rewritten.
        node: the concatenation.
        dim: the dimension along which it concatenates.
        new: the lanes that it has.

    Returns:
        The lanes with those that were missing, where only one constant can stand for the neurons.
    """
    shapes, widths = context.coupling.shapes, context.coupling.widths
    constants = [part for part in node.all_input_nodes if _has_values_of_its_own(context, part)]
    carried = context.coupling.carries.get(node.name, frozenset())
    for width in sorted((carried & context.candidates.new.keys()) - new.keys()):
        if len(constants) != 1 or constants[0].name not in shapes:
            continue  # nothing tells which constant it is
        entries = shapes[constants[0].name].size[dim]
        if entries % widths[width].size == 0:
            size = lane_size(context, constants[0], width, dim)
            new[width] = _cut(context, width, context.env[constants[0]].plus, dim, size)
    return new


_OF_A_TYPE = ("new_zeros", "new_ones", "new_full", "zeros_like", "ones_like", "full_like")
"""Names of functions and methods that take no more than type and size of a tensor."""


def _has_values_of_its_own(context: RewriteContext, node: fx.Node) -> bool:
    """Whether a constant is computed of sizes and other constants alone, and of no input."""
    if not _is_constant(context, node):
        return False
    if _name(node.target) in _OF_A_TYPE:
        return True
    sources = [source for source in node.all_input_nodes if source.name not in context.tensorless]
    return all(_has_values_of_its_own(context, source) for source in sources)


def _cut(context: RewriteContext, width: int, plus: fx.Node, dim: int, size: int) -> fx.Node:
    """A constant with the size of a lane."""
    provenance = Provenance("path", context.coupling.widths[width].name, NEW)
    return context.rewriter.call_function(lane_constant, (plus, dim, size), provenance)
