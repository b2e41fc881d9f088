"""Rules of what lies between writers and readers: it is copied, once for each lane.

``PathRule`` does so with any node. The others are for calls whose arguments hold a number of
neurons, groups or parts, which a lane of new neurons has its own of.
"""

import copy
import operator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from fxgrow.capture import writes_in_place
from fxgrow.errors import Refusal
from fxgrow.rewrite.constants import (
    concatenated_lanes,
    holds_no_neurons,
    lane_argument,
    written_lanes,
)
from fxgrow.rewrite.context import RewriteContext
from fxgrow.rewrite.lane_sizes import dims_of_neurons, kept_sizes, lane_shape, lane_size
from fxgrow.rewrite.lanes import MINUS, NEW, PLUS, Lanes, pick_lane
from fxgrow.rewrite.linear_use import attribute_at
from fxgrow.rewrite.rewriter import Provenance
from fxgrow.rewrite.rule import check_not_in_product, copy_plus
from fxgrow.surgery import sync_size_attributes


class PathRule:
    """Everything between writer and reader: copied for each lane.

    A module that holds values per neuron (a batch norm) gets a carrier for new neurons.
    """

    def match(self, context: RewriteContext, node: fx.Node) -> bool:
        return True

    def check(self, context: RewriteContext, node: fx.Node) -> Refusal | None:
        return check_not_in_product(context, node) if node.op == "call_module" else None

    def rewrite(self, context: RewriteContext, node: fx.Node) -> Lanes:
        sources = [context.env[source] for source in node.all_input_nodes]
        if not self._is_split(context, node, sources):
            plus, minus = copy_plus(context, node), None
        else:
            plus = copy_plus(context, node, Provenance("path", "", PLUS))
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
