"""Rewrite rules, one class per kind of node: ``match``, ``check`` (may refuse), ``rewrite``.

``REWRITE_RULES`` is tried in order; the last one takes everything that is left.
"""

import copy
import inspect
import operator
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from fxgrow.capture import writes_in_place
from fxgrow.coupling import WRITTEN_FILLS, Fill, Role
from fxgrow.errors import InternalError, Refusal
from fxgrow.rewrite.candidates import Slots
from fxgrow.rewrite.carried import carried_candidates
from fxgrow.rewrite.constants import (
    concatenated_lanes,
    constant_read,
    holds_no_neurons,
    lane_argument,
    written_lanes,
)
from fxgrow.rewrite.context import RewriteContext
from fxgrow.rewrite.entries import layer_entries, times_eps
from fxgrow.rewrite.lane_sizes import dims_of_neurons, kept_sizes, lane_shape, lane_size
from fxgrow.rewrite.lanes import MINUS, NEW, PLUS, Lanes, pick_lane
from fxgrow.rewrite.linear_op import LinearOp
from fxgrow.rewrite.linear_use import LinearUse, attribute_at
from fxgrow.rewrite.norms import MeanSquareRule, NormalizationRule, TiedReaderRule
from fxgrow.rewrite.overgrown_layer import Kept, OvergrownLayer
from fxgrow.rewrite.recurrent import OvergrownRecurrent, recurrent_module
from fxgrow.rewrite.rewriter import Provenance
from fxgrow.surgery import sync_size_attributes

EPS = ("fxgrow_candidates.split_eps", "fxgrow_candidates.new_eps")
SCALING = "fxgrow_scaling"


class RewriteRule(Protocol):
    """One kind of node. ``check``: why candidates cannot pass through a node (None: they can)."""

    def match(self, context: RewriteContext, node: fx.Node) -> bool: ...
    def check(self, context: RewriteContext, node: fx.Node) -> Refusal | None: ...
    def rewrite(self, context: RewriteContext, node: fx.Node) -> Lanes: ...


def _no_rewrite(node: fx.Node, reason: str) -> Refusal:
    return Refusal("no-rewrite", reason, (node.name,))


def _check_not_in_product(context: RewriteContext, node: fx.Node) -> Refusal | None:
    """Refuse a parameter that carries neurons and is a product's weight or bias too.

    It would need two sets of candidates.
    """
    for name, _, _ in context.labeled_axes(node):
        if name in context.op_by_parameter:
            return _no_rewrite(node, f"{name} is used both in a product and by {node.name}")
    return None


def _kind(root: nn.Module, node: fx.Node) -> str:
    """What a node calls, in a word."""
    if node.op == "call_module":
        return type(root.get_submodule(str(node.target))).__name__
    return str(getattr(node.target, "__name__", node.target))


def _unknown_use(root: nn.Module, node: fx.Node) -> str:
    """Why a node that reads or writes neurons is no product that candidates can be added to."""
    kind = _kind(root, node)
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and "weight" not in {**module._parameters, **module._buffers}:
            return (
                f"the weight of this {kind} is no parameter but computed, as by "
                "torch.nn.utils.prune (whose remove makes it one)"
            )
    return f"there is no rewrite rule for {kind} as a reader or writer"


def _copy_plus(
    context: RewriteContext, node: fx.Node, provenance: Provenance | None = None
) -> fx.Node:
    """A copy of a node on the ``plus`` lanes of its arguments."""
    plus = pick_lane(context.env, lambda lanes: lanes.plus)
    return context.rewriter.copy(node, plus, provenance)


class LinearRule:
    """A node that reads or writes neurons: the product and its candidates become one module."""

    def match(self, context: RewriteContext, node: fx.Node) -> bool:
        return context.is_linear(node)

    def check(self, context: RewriteContext, node: fx.Node) -> Refusal | None:
        use = context.linear_uses.get(node)
        if use is None:
            return _no_rewrite(node, _unknown_use(context.old, node))
        product = use.product
        for name in product.names:
            # Two uses of a weight share one module with its candidates, so they must be alike.
            if context.op_by_parameter[name] != product:
                return _no_rewrite(
                    node,
                    f"{product.weight} or its bias is shared by layers that use it differently",
                )
        if product.is_computed and not _rows_are_coupled(context, node, product):
            return _no_rewrite(node, f"{product.weight} and the weight have not the same neurons")
        others = _other_users(context, use)
        if others:
            names = ", ".join(sorted(user.name for user in others))
            return _no_rewrite(node, f"{product.weight} or its bias is also used by {names}")
        return None

    def rewrite(self, context: RewriteContext, node: fx.Node) -> Lanes:
        use = context.linear_uses.get(node)
        # What it reads or writes has no candidates then: see ``refusals_of_carried``.
        if use is None or carried_candidates(context, node):
            return PathRule().rewrite(context, node)
        split = _split_index(context, use.product)
        rows = _new_slots(context, use.product, use.product.rows)
        columns = _new_slots(context, use.product, use.product.columns)
        source = context.env[use.input]
        has_candidates = split is not None or bool(rows) or bool(columns)
        if not has_candidates and source.minus is None:
            return Lanes(_copy_plus(context, node))
        target = _insert_layer(context, use.product, split, rows, columns)
        lanes_read = [constant_read(context, use, slots) for slots in columns]
        plus = pick_lane(context.env, lambda lanes: lanes.plus)
        more = fx.node.map_arg(use.more, plus)
        blocks = context.blocks_of(target)
        args = (source.plus, source.minus, lanes_read, blocks, *more)
        call = context.rewriter.call_module(target, args, node.name, Provenance("layer"))
        has_halves = split is not None and context.candidates.halves
        return _unpack(context, call, [slots.width for slots in rows], has_halves)


def _rows_are_coupled(context: RewriteContext, node: fx.Node, product: LinearOp) -> bool:
    """Whether all that a weight is computed of has its rows' neurons, and only it its columns'."""
    coupled = set()
    written = context.coupling.writes.get(node.name, frozenset())
    for name in product.names:
        dims = attribute_at(context.old, name).dim()
        axis = product.rows if dims > 1 else 0
        coupled.add(context.widths_of(name, axis) & written)
        for other in range(dims):
            is_column_of_weight = (name, other) == (product.weight, product.columns)
            if other != axis and not is_column_of_weight and context.widths_of(name, other):
                return False
    if not _halved_at_emission(context, product):
        return False
    names = set(product.names)
    for name, axis, _ in context.labeled_axes(node):
        if name not in names and context.widths_of(name, axis) & context.touched(node):
            return False
    return len(coupled) == 1


def _halved_at_emission(context: RewriteContext, product: LinearOp) -> bool:
    """Whether the columns of a split neuron are shared by its halves, as those of a reader are."""
    for number in context.widths_of(product.weight, product.columns):
        width = context.coupling.widths[number]
        for site in width.sites:
            is_column = site.key == (product.weight, product.columns)
            if is_column and width.growable and site.role is not Role.READS:
                return False
    return True


def refusals_of_other_axes(context: RewriteContext, node: fx.Node) -> dict[int, Refusal]:
    """The widths along axes of a weight that its product neither reads nor writes candidates of.

    Such an axis says which of several matrices is applied (experts, frequencies), or writes or
    reads a second width beside the one that takes part.

    Args:
        context: the graph to be rewritten.
        node: a node of it.

    Returns:
        A refusal for each of them.
    """
    use = context.linear_uses.get(node)
    if use is None:
        return {}
    product = use.product
    refusals: dict[int, Refusal] = {}
    taking_part = {product.rows, product.columns}
    for axis in range(attribute_at(context.old, product.weight).dim()):
        if axis in taking_part:
            continue
        reason = f"{product.weight} has neurons along axis {axis} beside those that take part"
        for width in context.widths_of(product.weight, axis):
            refusals[width] = _no_rewrite(node, reason)
    return refusals


def _other_users(context: RewriteContext, use: LinearUse) -> list[fx.Node]:
    """The nodes other than products that use the parameters of a product. Sizes may be read."""
    users: set[fx.Node] = set()
    for source in use.sources:
        users.update(source.users)
    users.difference_update(context.linear_uses)
    users.difference_update(context.parameter_nodes)
    return [user for user in users if user.name not in context.tensorless]


def _split_index(context: RewriteContext, product: LinearOp) -> Tensor | None:
    """The split candidate of each row of a weight (see ``Candidates.split_index``); None: none."""
    if product.rows is None:
        return None
    widths = context.widths_of(product.weight, product.rows)
    if widths.isdisjoint(context.candidates.split):
        return None
    owners = context.coupling.owners[product.weight, product.rows]
    return product.spread(context.candidates.split_index(owners), product.rows)


def _new_slots(context: RewriteContext, product: LinearOp, axis: int | None) -> list[Slots]:
    """The new neurons along an axis of an oriented weight, one entry per width."""
    if axis is None:
        return []
    widths = context.widths_of(product.weight, axis) & context.candidates.new.keys()
    rule = context.coupling.site_rules.get((product.weight, axis))
    if rule is not None and axis == product.columns and rule.fill is not Fill.RANDOM:
        return []  # before a norm a new neuron is not 0, so nothing may read it yet
    found = []
    for width in sorted(widths):
        slots = context.slots(product.weight, axis, width)
        found.append(replace(slots, candidate=product.spread(slots.candidate, axis)))
    return found


def _kept(context: RewriteContext, product: LinearOp, axis: int | None) -> Tensor | None:
    """Where candidates have entries along an axis of a weight (see ``Kept``); None: everywhere."""
    blank = context.candidates.layers
    if axis is None:
        return None
    if context.widths_of(product.weight, axis).isdisjoint(blank):
        return None
    owners = context.coupling.owners[product.weight, axis]
    is_blank = torch.isin(torch.from_numpy(owners.width), torch.tensor(sorted(blank)))
    return product.spread(~is_blank, axis)


def _insert_layer(
    context: RewriteContext,
    product: LinearOp,
    split: Tensor | None,
    rows: list[Slots],
    columns: list[Slots],
) -> str:
    """The target of a product's ``OvergrownLayer``, which all uses of its parameters share."""
    key = product.names
    if key not in context.targets:
        tensors = [attribute_at(context.old, name) for name in product.names]
        layer = OvergrownLayer(
            product,
            tensors[0],
            tensors[-1] if product.bias else None,
            split,
            rows,
            columns,
            context.candidates.halves,
            Kept(_kept(context, product, product.rows), _kept(context, product, product.columns)),
            tensors[1 : 1 + len(product.others)],
            _gain_place(context, product),
        )
        context.layers[context.insert(key, product.weight.removesuffix(".weight"), layer)] = layer
        context.entries += layer_entries(layer)
    return context.targets[key]


def _gain_place(context: RewriteContext, product: LinearOp) -> int | None:
    """Where the norms of a weight's rows are among the parameters; None if it has none."""
    gain = context.gains.get(product.weight)
    return product.names.index(gain) if gain in product.names else None


def _unpack(
    context: RewriteContext, call: fx.Node, widths: Sequence[int], has_halves: bool
) -> Lanes:
    """The lanes that a layer opens: one node for each value of the list that it gives."""

    def item(index: int, width: str, lane: str) -> fx.Node:
        provenance = Provenance("layer", width, lane)
        return context.rewriter.call_function(operator.getitem, (call, index), provenance)

    plus = item(0, "", PLUS)
    minus = item(1, "", MINUS) if has_halves else None
    new = {}
    for index, width in enumerate(widths, start=2 if has_halves else 1):
        new[width] = item(index, context.coupling.widths[width].name, NEW)
    return Lanes(plus, minus, new)


_ATTRIBUTES_WITHOUT_VALUES = ("dtype", "device", "shape", "ndim")
_METHODS_WITHOUT_VALUES = ("size", "dim", "numel", "nelement")


def _only_its_form(node: fx.Node) -> bool:
    """Whether nothing but the dtype, device or sizes of a parameter are read."""
    for user in node.users:
        if user.target is getattr and user.args[1] in _ATTRIBUTES_WITHOUT_VALUES:
            continue
        if user.op != "call_method" or user.target not in _METHODS_WITHOUT_VALUES:
            return False
    return bool(node.users)


class RecurrentRule:
    """A recurrent layer or cell: it and its candidates become one wider layer."""

    def match(self, context: RewriteContext, node: fx.Node) -> bool:
        return bool(context.touched(node)) and recurrent_module(context.old, node) is not None

    def check(self, context: RewriteContext, node: fx.Node) -> Refusal | None:
        products = context.recurrent_products.get(node)
        kind = _kind(context.old, node)
        written = context.coupling.writes.get(node.name, frozenset())
        if not written.isdisjoint(context.coupling.under_norms):
            return _no_rewrite(node, f"a {kind} cannot write new neurons that a norm sees")
        if products is None:
            return _no_rewrite(node, f"a weight of this {kind} is computed from parameters")
        for product in products:
            for name in product.names:
                if context.op_by_parameter[name] != product:
                    return _no_rewrite(node, f"{name} is shared by layers that use it differently")
        return None

    def rewrite(self, context: RewriteContext, node: fx.Node) -> Lanes:
        products = context.recurrent_products.get(node)
        widths = context.touched(node)
        has_candidates = widths & {*context.candidates.split, *context.candidates.new}
        source, state = _recurrent_arguments(node)
        if products is None or not has_candidates:
            return Lanes(_copy_plus(context, node))
        target = _insert_recurrent(context, node, products)
        layer = attribute_at(context.rewriter.root, target)
        lanes = context.env[source]
        states = []
        for minus in (False, True):
            half = pick_lane(context.env, partial(Lanes.half, minus=minus))
            states.append(fx.node.map_arg(state, half))
        for width in layer.new_widths:
            states.append(fx.node.map_arg(state, partial(_new_lane, context, width)))
        read = [lanes.new[width] for width in layer.input_widths]
        args = (lanes.plus, lanes.minus, read, states, *context.eps_nodes)
        call = context.rewriter.call_module(target, args, node.name, Provenance("layer"))
        return _unpack(context, call, layer.new_widths, layer.has_halves)


def _new_lane(context: RewriteContext, width: int, node: fx.Node) -> fx.Node | None:
    """The new neurons of a width in a value; None if it has none of them."""
    return context.env[node].new.get(width)


def _recurrent_arguments(node: fx.Node) -> tuple[fx.Node, Any]:
    """The input of a recurrent module, and the state that it starts from."""
    arguments = inspect.signature(nn.GRU.forward).bind(None, *node.args, **node.kwargs).arguments
    return arguments["input"], arguments.get("hx")


def _insert_recurrent(context: RewriteContext, node: fx.Node, products: Sequence[LinearOp]) -> str:
    """The target of a module's ``OvergrownRecurrent``, which all its calls share."""
    key = ("recurrent", str(node.target))
    if key not in context.targets:
        layers = []
        for product in products:
            split = _split_index(context, product)
            rows = _new_slots(context, product, product.rows)
            columns = _new_slots(context, product, product.columns)
            target = _insert_layer(context, product, split, rows, columns)
            layers.append(attribute_at(context.rewriter.root, target))
        module = context.old.get_submodule(str(node.target))
        context.insert(key, str(node.target), OvergrownRecurrent(module, layers))
    return context.targets[key]


class ParameterRule:
    """A parameter used as a value (layer scale, position embedding).

    New neurons have values of their own in it, which the carrier holds.
    """

    def match(self, context: RewriteContext, node: fx.Node) -> bool:
        if node.op != "get_attr" or node in context.parameter_nodes or _only_its_form(node):
            return False
        if not node.users:  # exported graphs read tied parameters under each name
            return False
        return bool(context.touched(node))

    def check(self, context: RewriteContext, node: fx.Node) -> Refusal | None:
        return _check_not_in_product(context, node)

    def rewrite(self, context: RewriteContext, node: fx.Node) -> Lanes:
        plus = _copy_plus(context, node)
        new = {}
        for name, axis, tensor in context.labeled_axes(node):
            widths = context.widths_of(name, axis) & context.candidates.new.keys()
            for width in sorted(widths):
                provenance = Provenance("parameter", context.coupling.widths[width].name, NEW)
                rule = context.coupling.site_rules.get((name, axis))
                is_learned = isinstance(tensor, nn.Parameter)
                if rule is not None and rule.fill in WRITTEN_FILLS and is_learned:
                    target, unit = context.writing_carrier(name, axis, tensor, width)
                    value = context.rewriter.get_attr(target, provenance)
                    eps = _eps_of(context, width, provenance)
                    args = (value, eps, unit, axis)
                    new[width] = context.rewriter.call_function(times_eps, args, provenance)
                else:
                    target = context.carrier(name, axis, tensor, width)
                    new[width] = context.rewriter.get_attr(target, provenance)
        return Lanes(plus, None, new)


def _eps_of(context: RewriteContext, width: int, provenance: Provenance) -> fx.Node:
    """The eps of the new neurons of a width."""
    args = (context.eps_nodes[1], context.candidates.new[width])
    return context.rewriter.call_function(operator.getitem, args, provenance)


_CONCATENATIONS = (torch.cat, torch.concat, torch.concatenate, torch.ops.aten.cat.default)


class ConcatRule:
    """Concatenation: new neurons of a width are in some of the parts only."""

    def match(self, context: RewriteContext, node: fx.Node) -> bool:
        return node.target in _CONCATENATIONS

    def check(self, context: RewriteContext, node: fx.Node) -> Refusal | None:
        return None

    def rewrite(self, context: RewriteContext, node: fx.Node) -> Lanes:
        lanes = PathRule().rewrite(context, node)
        for width, new in lanes.new.items():
            # Of the parts only those that have a lane of this width's new neurons are concatenated.
            lanes_of_width = [context.env[a].new.get(width) for a in node.all_input_nodes]
            parts: Any = new.args[0]
            if isinstance(parts, fx.Node):
                continue  # all parts are of one value (``cat(h.split(2))``)
            new.args = ([part for part in parts if part in lanes_of_width], *new.args[1:])
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        if not isinstance(dim, int):
            return lanes
        new_lanes = concatenated_lanes(context, node, dim, dict(lanes.new))
        return replace(lanes, new=new_lanes)


class DepthwiseRule:
    """A depthwise convolution by function: a lane has as many groups as it has channels."""

    def match(self, context: RewriteContext, node: fx.Node) -> bool:
        is_plain = node.op == "call_function" and node.target in DEPTHWISE_FUNCTIONS
        return is_plain and not context.is_linear(node)

    def check(self, context: RewriteContext, node: fx.Node) -> Refusal | None:
        return None

    def rewrite(self, context: RewriteContext, node: fx.Node) -> Lanes:
        lanes = PathRule().rewrite(context, node)
        for new in lanes.new.values():
            with context.rewriter.graph.inserting_before(new):
                channels = context.rewriter.graph.call_method("size", (new.args[0], 1))
            if len(new.args) > _GROUPS:
                new.update_arg(_GROUPS, channels)
            else:
                new.update_kwarg("groups", channels)
        return lanes


DEPTHWISE_FUNCTIONS = (F.conv1d, F.conv2d, F.conv3d)
_GROUPS = 6
"""The position of ``groups`` among the arguments of these."""


class GroupNormRule:
    """A group norm: a lane has groups of its own, as large as the old ones."""

    def match(self, context: RewriteContext, node: fx.Node) -> bool:
        # The carrier of a module with a weight has that of the lane, which tells it its groups.
        return node.target in _GROUP_NORMS or _bare_group_norm(context, node) is not None

    def check(self, context: RewriteContext, node: fx.Node) -> Refusal | None:
        return None

    def rewrite(self, context: RewriteContext, node: fx.Node) -> Lanes:
        lanes, made = PathRule().rewrite(context, node), {}
        module = _bare_group_norm(context, node)
        for width, new in lanes.new.items():
            made[width] = new
            given = new.args[1] if len(new.args) > 1 else new.kwargs.get("num_groups")
            groups = given if module is None else module.num_groups
            if not isinstance(groups, int):
                continue  # read off the lane itself
            x: Any = new.args[0] if new.args else new.kwargs["input"]
            channels_of_each = context.coupling.shapes[node.name].size[1] // groups
            with context.rewriter.graph.inserting_before(new):
                channels = context.rewriter.graph.call_method("size", (x, 1))
                own = context.rewriter.graph.call_function(
                    operator.floordiv, (channels, channels_of_each)
                )
            if module is not None:
                provenance = Provenance("path", context.coupling.widths[width].name, NEW)
                call = context.rewriter.call_function
                made[width] = call(F.group_norm, (x, own, None, None, module.eps), provenance)
            elif len(new.args) > 1:
                new.update_arg(1, own)
            else:
                new.update_kwarg("num_groups", own)
        return replace(lanes, new=made)


_GROUP_NORMS = (F.group_norm, torch.group_norm, torch.ops.aten.group_norm.default)


def _bare_group_norm(context: RewriteContext, node: fx.Node) -> nn.GroupNorm | None:
    """The group norm without a weight that a node calls, if it does: nothing tells it its size."""
    if node.op != "call_module":
        return None
    module = context.old.get_submodule(str(node.target))
    is_bare = isinstance(module, nn.GroupNorm) and getattr(module, "weight", None) is None
    return module if is_bare and type(module) is nn.GroupNorm else None


class ReshapeRule:
    """A reshape whose code holds the number of neurons: a lane has its own."""

    def match(self, context: RewriteContext, node: fx.Node) -> bool:
        return node.target in RESHAPES and not node.kwargs

    def check(self, context: RewriteContext, node: fx.Node) -> Refusal | None:
        return None

    def rewrite(self, context: RewriteContext, node: fx.Node) -> Lanes:
        lanes = PathRule().rewrite(context, node)
        for width, new in lanes.new.items():
            dims = dims_of_neurons(context, node, width)
            if len(dims) != 1:
                continue  # nothing tells which number is that of the neurons
            x, *sizes = new.args
            shape: Any = sizes if len(sizes) > 1 else sizes[0]
            if not isinstance(shape, fx.Node) and isinstance(shape[dims[0]], fx.Node):
                continue  # read off the lane itself
            with context.rewriter.graph.inserting_before(new):
                function = context.rewriter.graph.call_function
                size = lane_size(context, node, width, dims[0])
                kept: Any = kept_sizes(context, node, dims[0])
                new.args = (x, function(lane_shape, (x, shape, dims[0], size, kept)))
        return lanes


class SplitRule:
    """``split(x, size, dim)`` into equal parts of neurons: a lane has as many, of its own size."""

    def match(self, context: RewriteContext, node: fx.Node) -> bool:
        return node.target in _SPLITS and len(node.args) > 1 and isinstance(node.args[1], int)

    def check(self, context: RewriteContext, node: fx.Node) -> Refusal | None:
        return None

    def rewrite(self, context: RewriteContext, node: fx.Node) -> Lanes:
        lanes = PathRule().rewrite(context, node)
        x: Any = node.args[0]
        size: Any = node.args[1]
        dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
        known = context.coupling.shapes.get(x.name) if isinstance(x, fx.Node) else None
        if not isinstance(x, fx.Node) or known is None or not isinstance(dim, int):
            return lanes
        along, parts = dim % len(known.size), known.size[dim] // size
        for width, new in lanes.new.items():
            if known.size[dim] % size == 0 and along in dims_of_neurons(context, x, width):
                new.update_arg(1, lane_size(context, x, width, along) // parts)
        return lanes


_SPLITS = (torch.split, torch.functional.split, "split", torch.ops.aten.split.Tensor)

RESHAPES = (
    "view",
    "reshape",
    torch.reshape,
    torch.ops.aten.view.default,
    torch.ops.aten.reshape.default,
    torch.ops.aten._unsafe_view.default,
)


class PathRule:
    """Everything between writer and reader: copied for each lane.

    A module that holds values per neuron (a batch norm) gets a carrier for new neurons.
    """

    def match(self, context: RewriteContext, node: fx.Node) -> bool:
        return True

    def check(self, context: RewriteContext, node: fx.Node) -> Refusal | None:
        return _check_not_in_product(context, node) if node.op == "call_module" else None

    def rewrite(self, context: RewriteContext, node: fx.Node) -> Lanes:
        sources = [context.env[source] for source in node.all_input_nodes]
        if not self._is_split(context, node, sources):
            plus, minus = _copy_plus(context, node), None
        else:
            plus = _copy_plus(context, node, Provenance("path", "", PLUS))
            second_half = pick_lane(context.env, lambda lanes: lanes.half(minus=True))
            minus = context.rewriter.copy(node, second_half, Provenance("path", "", MINUS))
        new = {}
        for width in self._new_widths(context, node, sources):
            provenance = Provenance("path", context.coupling.widths[width].name, NEW)
            lane_of_width = partial(lane_argument, context, node, width)
            new[width] = context.rewriter.copy(node, lane_of_width, provenance)
            if context.holds_width(node, width):
                new[width].target = self._carrier_module(context, node, width)
        return Lanes(plus, minus, written_lanes(context, node, plus, new))

    def _is_split(self, context: RewriteContext, node: fx.Node, sources: list[Lanes]) -> bool:
        """Whether the two halves of split neurons pass through a node, or are written into it."""
        written = context.written_constants.get(node, frozenset())
        if not written.isdisjoint(context.candidates.split):
            return context.candidates.halves
        carried = context.coupling.carries.get(node.name, frozenset())
        if carried.isdisjoint(context.candidates.split):
            return False
        return any(source.minus is not None for source in sources)

    def _new_widths(
        self, context: RewriteContext, node: fx.Node, sources: list[Lanes]
    ) -> list[int]:
        """The widths whose new neurons pass through a node."""
        widths: set[int] = set()
        for source in sources:
            widths.update(source.new)
        target = node.args[0] if node.args else None
        if isinstance(target, fx.Node) and writes_in_place(node, context.old):
            widths &= context.env[target].new.keys()  # else the old one is written twice
        # A size carries no neurons, but is read off every lane, since lanes differ in size.
        if node.name in context.tensorless:
            return sorted(widths)
        if not holds_no_neurons(context.coupling, node):
            return sorted(widths & context.coupling.carries[node.name])
        # A constant that was made of sizes differs in size as well.
        made_of: set[int] = set()
        for argument in node.all_input_nodes:
            if holds_no_neurons(context.coupling, argument):
                made_of.update(context.env[argument].new)
        return sorted(widths & made_of)

    def _carrier_module(self, context: RewriteContext, node: fx.Node, width: int) -> str:
        """The target of a module like the node's own, for the new neurons of one width alone."""
        key = (node.target, width)
        if key not in context.targets:
            base = context.old.get_submodule(str(node.target))
            carrier = copy.deepcopy(base)
            # Where in the module each tensor lies: carriers are found by the tensors of the base.
            paths = {}
            for path, tensor in (*base.named_parameters(), *base.named_buffers()):
                paths[id(tensor)] = path
            for name, axis, tensor in context.labeled_axes(node):
                if width in context.widths_of(name, axis):
                    target = context.carrier(name, axis, tensor, width)
                    owner, _, leaf = paths[id(tensor)].rpartition(".")
                    values = attribute_at(context.rewriter.root, target)
                    setattr(carrier.get_submodule(owner), leaf, values)
            sync_size_attributes(carrier)
            for parameter in carrier.parameters():
                parameter.requires_grad_(width not in context.candidates.under_norms)
            context.insert(key, f"{node.target}_{width}", carrier)
        return context.targets[key]


REWRITE_RULES: tuple[RewriteRule, ...] = (
    RecurrentRule(),
    TiedReaderRule(),
    NormalizationRule(),
    MeanSquareRule(),
    LinearRule(),
    ParameterRule(),
    ConcatRule(),
    DepthwiseRule(),
    GroupNormRule(),
    ReshapeRule(),
    SplitRule(),
    PathRule(),
)


def rule_for(context: RewriteContext, node: fx.Node) -> RewriteRule:
    """The first rule that matches a node.

    Args:
        context: the graph being rewritten.
        node: a node of the old graph.

    Returns:
        Its rule; the last one matches every node.
    """
    for rule in REWRITE_RULES:
        if rule.match(context, node):
            return rule
    raise InternalError(f"no rewrite rule matches {node.format_node()}")
