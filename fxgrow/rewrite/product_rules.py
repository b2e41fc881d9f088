"""The rule of products: a node that reads or writes neurons becomes a layer with candidates."""

import operator
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, fx, nn

from fxgrow.coupling import Fill, Role
from fxgrow.errors import Refusal
from fxgrow.rewrite.candidates import Slots
from fxgrow.rewrite.carried import carried_candidates
from fxgrow.rewrite.constants import constant_read
from fxgrow.rewrite.context import RewriteContext
from fxgrow.rewrite.entries import layer_entries
from fxgrow.rewrite.lanes import MINUS, NEW, PLUS, Lanes, pick_lane
from fxgrow.rewrite.linear_op import LinearOp
from fxgrow.rewrite.linear_use import LinearUse, attribute_at
from fxgrow.rewrite.overgrown_layer import Kept, OvergrownLayer
from fxgrow.rewrite.parametrized import graph_source
from fxgrow.rewrite.path_rules import PathRule
from fxgrow.rewrite.rewriter import Provenance
from fxgrow.rewrite.rule import copy_plus, kind_of, no_rewrite


class LinearRule:
    """A node that reads or writes neurons: the product and its candidates become one module."""

    def match(self, context: RewriteContext, node: fx.Node) -> bool:
        return context.is_linear(node)

    def check(self, context: RewriteContext, node: fx.Node) -> Refusal | None:
        use = context.linear_uses.get(node)
        if use is None:
            return no_rewrite(node, _unknown_use(context.old, node))
        product = use.product
        for name in product.names:
            # Two uses of a weight share one module with its candidates, so they must be alike.
            if context.op_by_parameter[name] != product:
                return no_rewrite(
                    node,
                    f"{product.weight} or its bias is shared by layers that use it differently",
                )
        if product.is_computed and not _rows_are_coupled(context, node, product):
            return no_rewrite(node, f"{product.weight} and the weight have not the same neurons")
        others = _other_users(context, use)
        if others:
            names = ", ".join(sorted(user.name for user in others))
            return no_rewrite(node, f"{product.weight} or its bias is also used by {names}")
        return None

    def rewrite(self, context: RewriteContext, node: fx.Node) -> Lanes:
        use = context.linear_uses.get(node)
        # What it reads or writes has no candidates then: see ``refusals_of_carried``.
        if use is None or carried_candidates(context, node):
            return PathRule().rewrite(context, node)
        split = split_index_of(context, use.product)
        rows = new_slots(context, use.product, use.product.rows)
        columns = new_slots(context, use.product, use.product.columns)
        source = context.env[use.input]
        has_candidates = split is not None or bool(rows) or bool(columns)
        if not has_candidates and source.minus is None:
            return Lanes(copy_plus(context, node))
        target = insert_layer(context, use.product, split, rows, columns)
        lanes_read = [constant_read(context, use, slots) for slots in columns]
        plus = pick_lane(context.env, lambda lanes: lanes.plus)
        more = fx.node.map_arg(use.more, plus)
        blocks = context.blocks_of(target)
        args = (source.plus, source.minus, lanes_read, blocks, *more)
        call = context.rewriter.call_module(target, args, node.name, Provenance("layer"))
        has_halves = split is not None and context.candidates.halves
        return unpack_lanes(context, call, [slots.width for slots in rows], has_halves)


def _unknown_use(root: nn.Module, node: fx.Node) -> str:
    """Why a node that reads or writes neurons is no product that candidates can be added to."""
    kind = kind_of(root, node)
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and "weight" not in {**module._parameters, **module._buffers}:
            return (
                f"the weight of this {kind} is no parameter but computed, as by "
                "torch.nn.utils.prune (whose remove makes it one)"
            )
    for argument in node.all_input_nodes:
        source = graph_source(root, argument)
        buffers = [] if source is None else source.buffers_of_its_shape(root)
        if buffers:
            names = ", ".join(buffers)
            return (
                f"a weight of this {kind} is computed with the buffer {names} (a mask, say), and "
                "no candidate can say what that is for a new neuron"
            )
    return f"there is no rewrite rule for {kind} as a reader or writer"


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
            refusals[width] = no_rewrite(node, reason)
    return refusals


def _other_users(context: RewriteContext, use: LinearUse) -> list[fx.Node]:
    """The nodes other than products that use the parameters of a product. Sizes may be read."""
    users: set[fx.Node] = set()
    for source in use.sources:
        users.update(source.users)
    users.difference_update(context.linear_uses)
    users.difference_update(context.parameter_nodes)
    return [user for user in users if user.name not in context.tensorless]


def split_index_of(context: RewriteContext, product: LinearOp) -> Tensor | None:
    """The split candidate of each row of a weight (see ``Candidates.split_index``); None: none."""
    if product.rows is None:
        return None
    widths = context.widths_of(product.weight, product.rows)
    if widths.isdisjoint(context.candidates.split):
        return None
    owners = context.coupling.owners[product.weight, product.rows]
    return product.spread(context.candidates.split_index(owners), product.rows)


def new_slots(context: RewriteContext, product: LinearOp, axis: int | None) -> list[Slots]:
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


def insert_layer(
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


def unpack_lanes(
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
