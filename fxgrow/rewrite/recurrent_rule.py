"""The rule of recurrent layers and cells, whose weights are many products of one module."""

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import fx, nn

from fxgrow.errors import Refusal
from fxgrow.rewrite.context import RewriteContext
from fxgrow.rewrite.lanes import Lanes, pick_lane
from fxgrow.rewrite.linear_op import LinearOp
from fxgrow.rewrite.linear_use import attribute_at
from fxgrow.rewrite.product_rules import insert_layer, new_slots, split_index_of, unpack_lanes
from fxgrow.rewrite.recurrent import OvergrownRecurrent, recurrent_module
from fxgrow.rewrite.rewriter import Provenance
from fxgrow.rewrite.rule import copy_plus, kind_of, no_rewrite


class RecurrentRule:
    """A recurrent layer or cell: it and its candidates become one wider layer."""

    def match(self, context: RewriteContext, node: fx.Node) -> bool:
        return bool(context.touched(node)) and recurrent_module(context.old, node) is not None

    def check(self, context: RewriteContext, node: fx.Node) -> Refusal | None:
        products = context.recurrent_products.get(node)
        kind = kind_of(context.old, node)
        written = context.coupling.writes.get(node.name, frozenset())
        if not written.isdisjoint(context.coupling.under_norms):
            return no_rewrite(node, f"a {kind} cannot write new neurons that a norm sees")
        if products is None:
            return no_rewrite(node, f"a weight of this {kind} is computed from parameters")
        for product in products:
            for name in product.names:
                if context.op_by_parameter[name] != product:
                    return no_rewrite(node, f"{name} is shared by layers that use it differently")
        return None

    def rewrite(self, context: RewriteContext, node: fx.Node) -> Lanes:
        products = context.recurrent_products.get(node)
        widths = context.touched(node)
        has_candidates = widths & {*context.candidates.split, *context.candidates.new}
        source, state = _recurrent_arguments(node)
        if products is None or not has_candidates:
            return Lanes(copy_plus(context, node))
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
        return unpack_lanes(context, call, layer.new_widths, layer.has_halves)


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
            split = split_index_of(context, product)
            rows = new_slots(context, product, product.rows)
            columns = new_slots(context, product, product.columns)
            target = insert_layer(context, product, split, rows, columns)
            layers.append(attribute_at(context.rewriter.root, target))
        module = context.old.get_submodule(str(node.target))
        context.insert(key, str(node.target), OvergrownRecurrent(module, layers))
    return context.targets[key]
