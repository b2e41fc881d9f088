"""Rewrite rules of the twin transform, one class per kind of node: ``match``, ``check`` (may refuse), ``rewrite``.

``RULES`` is tried in order; the last one takes everything that is left.
"""

import copy
import operator
from collections.abc import Iterable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, fx, nn

from fxgrow.errors import InternalError, Refusal
from fxgrow.rewrite.candidates import Entry, Slots
from fxgrow.rewrite.context import RewriteContext
from fxgrow.rewrite.lanes import MINUS, NEW, PLUS, Lanes, pick_lane
from fxgrow.rewrite.linear_op import LinearOp
from fxgrow.rewrite.linear_use import attribute_at
from fxgrow.rewrite.overgrown_layer import OvergrownLayer
from fxgrow.rewrite.rewriter import Provenance
from fxgrow.surgery import sync_size_attributes

EPS = ("fxgrow_candidates.split_eps", "fxgrow_candidates.new_eps")


class RewriteRule(Protocol):
    """One kind of node. ``check`` says why candidates of a width cannot pass through it (None: they can)."""

    def match(self, walk: RewriteContext, node: fx.Node) -> bool: ...
    def check(self, walk: RewriteContext, node: fx.Node) -> Refusal | None: ...
    def rewrite(self, walk: RewriteContext, node: fx.Node) -> Lanes: ...


def _no_rewrite(node: fx.Node, reason: str) -> Refusal:
    return Refusal("no-rewrite", reason, (node.name,))


def _also_multiplied(walk: RewriteContext, node: fx.Node) -> Refusal | None:
    """A parameter that carries neurons and is a product's weight or bias too would need two sets of candidates."""
    both = [name for name, _, _ in walk.parameters(node) if name in walk.users]
    return (
        _no_rewrite(node, f"{both[0]} is used both in a product and by {node.name}")
        if both
        else None
    )


def _kind(root: nn.Module, node: fx.Node) -> str:
    if node.op == "call_module":
        return type(root.get_submodule(str(node.target))).__name__
    return str(getattr(node.target, "__name__", node.target))


def _names(nodes: Iterable[fx.Node]) -> str:
    return ", ".join(sorted(node.name for node in nodes))


class LinearRule:
    """A node that reads or writes neurons: the product and its candidates become one module."""

    def match(self, walk: RewriteContext, node: fx.Node) -> bool:
        return walk.multiplies(node)

    def check(self, walk: RewriteContext, node: fx.Node) -> Refusal | None:
        found = walk.readings.get(node)
        if found is None:
            return _no_rewrite(
                node, f"there is no rewrite rule for {_kind(walk.old, node)} as a reader or writer"
            )
        if any(walk.users[name] != found.product for name in found.product.names):
            return _no_rewrite(
                node,
                f"{found.product.weight} or its bias is shared by layers that use it differently",
            )
        users = (
            {user for source in found.sources for user in source.users}
            - walk.readings.keys()
            - walk.sources
        )
        strangers = [
            user for user in users if user.name not in walk.untensored
        ]  # sizes may be read
        if strangers:
            return _no_rewrite(
                node, f"{found.product.weight} or its bias is also used by {_names(strangers)}"
            )
        return None

    def rewrite(self, walk: RewriteContext, node: fx.Node) -> Lanes:
        found = walk.readings.get(node)
        split, rows, columns = self._candidates(walk, found.product) if found else (None, [], [])
        if found is None or (
            split is None and not rows and not columns and walk.env[found.input].minus is None
        ):
            return Lanes(walk.rewriter.copy(node, pick_lane(walk.env, lambda one: one.plus)))
        product, source = found.product, walk.env[found.input]
        key = product.names
        if key not in walk.made:
            tensors = [attribute_at(walk.old, name) for name in product.names]
            module = OvergrownLayer(
                product,
                tensors[0],
                tensors[1] if product.bias else None,
                split,
                rows,
                columns,
                walk.candidates.halves,
            )
            walk.hold(key, product.weight.removesuffix(".weight"), module)
            walk.entries += layer_entries(module)
        args = (
            source.plus,
            source.minus,
            [source.new[slots.width] for slots in columns],
            *walk.eps_nodes,
        )
        call = walk.rewriter.call_module(walk.made[key], args, node.name, Provenance("layer"))
        halved = split is not None and walk.candidates.halves
        names = [("", PLUS)] + [("", MINUS)] * halved
        names += [(walk.coupling.widths[slots.width].name, NEW) for slots in rows]
        parts = [
            walk.rewriter.call_function(
                operator.getitem, (call, i), Provenance("layer", width, lane)
            )
            for i, (width, lane) in enumerate(names)
        ]
        new = dict(
            zip((slots.width for slots in rows), parts[len(parts) - len(rows) :], strict=True)
        )
        return Lanes(parts[0], parts[1] if halved else None, new)

    def _candidates(
        self, walk: RewriteContext, product: LinearOp
    ) -> tuple[Tensor | None, list[Slots], list[Slots]]:
        """The split candidate of each row (None: none in this layer), and the new neurons written and read."""
        rows = self._new(walk, product.weight, product.rows)
        columns = self._new(walk, product.weight, product.columns)
        if not walk.widths_of(product.weight, product.rows) & walk.candidates.split.keys():
            return None, rows, columns
        return (
            walk.candidates.split_index(walk.coupling.owners[product.weight, product.rows]),
            rows,
            columns,
        )

    def _new(self, walk: RewriteContext, weight: str, axis: int) -> list[Slots]:
        widths = walk.widths_of(weight, axis) & walk.candidates.new.keys()
        return [walk.slots(weight, axis, width) for width in sorted(widths)]


class ParameterRule:
    """A parameter used as a value (layer scale, position embedding): new neurons have places of their own in it."""

    def match(self, walk: RewriteContext, node: fx.Node) -> bool:
        return node.op == "get_attr" and node not in walk.sources and bool(walk.touched(node))

    def check(self, walk: RewriteContext, node: fx.Node) -> Refusal | None:
        return _also_multiplied(walk, node)

    def rewrite(self, walk: RewriteContext, node: fx.Node) -> Lanes:
        plus = walk.rewriter.copy(node, pick_lane(walk.env, lambda lanes: lanes.plus))
        new = {}
        for name, axis, tensor in walk.parameters(node):
            for width in sorted(walk.widths_of(name, axis) & walk.candidates.new.keys()):
                provenance = Provenance("parameter", walk.coupling.widths[width].name, NEW)
                new[width] = walk.rewriter.get_attr(
                    walk.carrier(name, axis, tensor, width), provenance
                )
        return Lanes(plus, None, new)


class ConcatRule:
    """Concatenation: new neurons of a width are in some of the parts only."""

    def match(self, walk: RewriteContext, node: fx.Node) -> bool:
        return node.target in (
            torch.cat,
            torch.concat,
            torch.concatenate,
            torch.ops.aten.cat.default,
        )

    def check(self, walk: RewriteContext, node: fx.Node) -> Refusal | None:
        return None

    def rewrite(self, walk: RewriteContext, node: fx.Node) -> Lanes:
        plain = PathRule().rewrite(walk, node)
        new = {}
        for width, lane in plain.new.items():
            # Only inputs that have a lane of this width's new neurons are concatenated.
            lanes_of_width = {walk.env[a].new.get(width) for a in node.all_input_nodes}
            parts: Any = lane.args[0]
            lane.args = ([part for part in parts if part in lanes_of_width], *lane.args[1:])
            new[width] = lane
        return Lanes(plain.plus, plain.minus, new)


class PathRule:
    """Everything between writer and reader: copied for each lane; new neurons get carriers of their own."""

    def match(self, walk: RewriteContext, node: fx.Node) -> bool:
        return True

    def check(self, walk: RewriteContext, node: fx.Node) -> Refusal | None:
        return _also_multiplied(walk, node) if node.op == "call_module" else None

    def rewrite(self, walk: RewriteContext, node: fx.Node) -> Lanes:
        sources = [walk.env[source] for source in node.all_input_nodes]
        carried = walk.coupling.carries.get(node.name, frozenset())
        number = node.name in walk.untensored
        twin = any(source.minus is not None for source in sources) and bool(
            carried & walk.candidates.split.keys()
        )
        plus = walk.rewriter.copy(
            node,
            pick_lane(walk.env, lambda lanes: lanes.plus),
            Provenance("path", "", PLUS) if twin else None,
        )
        minus = None
        if twin:
            minus = walk.rewriter.copy(
                node,
                pick_lane(walk.env, lambda lanes: lanes.half(minus=True)),
                Provenance("path", "", MINUS),
            )
        new = {}
        for width in sorted(
            {width for source in sources for width in source.new if number or width in carried}
        ):
            provenance = Provenance("path", walk.coupling.widths[width].name, NEW)
            new[width] = walk.rewriter.copy(
                node, pick_lane(walk.env, partial(Lanes.lane, width=width)), provenance
            )
            if any(width in walk.widths_of(name, axis) for name, axis, _ in walk.parameters(node)):
                new[width].target = self._carrier(walk, node, width)
        return Lanes(plus, minus, new)

    def _carrier(self, walk: RewriteContext, node: fx.Node, width: int) -> str:
        """A module like the node's own for the new neurons of one width alone."""
        key = (node.target, width)
        if key not in walk.made:
            base = walk.old.get_submodule(str(node.target))
            carrier, local = (
                copy.deepcopy(base),
                dict(base.named_parameters()) | dict(base.named_buffers()),
            )
            leaves = {id(tensor): leaf for leaf, tensor in local.items()}
            for name, axis, tensor in walk.parameters(node):
                if width in walk.widths_of(name, axis):
                    mine = attribute_at(walk.rewriter.root, walk.carrier(name, axis, tensor, width))
                    path, _, leaf = leaves[id(tensor)].rpartition(".")
                    setattr(carrier.get_submodule(path), leaf, mine)
            sync_size_attributes(carrier)
            for parameter in carrier.parameters():
                parameter.requires_grad_()
            walk.hold(key, f"{node.target}_{width}", carrier)
        return walk.made[key]


REWRITE_RULES: tuple[RewriteRule, ...] = (LinearRule(), ParameterRule(), ConcatRule(), PathRule())


def layer_entries(module: OvergrownLayer) -> list[Entry]:
    """Where the candidates of a layer go at emission: its weight and bias, per axis."""
    product = module.product
    written = list(zip(product.names, (product.rows, 0), strict=False))
    entries = []
    for i, (name, axis) in enumerate(written):
        if module.delta is not None:
            entries.append(Entry(name, axis, None, partial(_delta, module, i)))
        entries += [
            Entry(name, axis, slots, partial(_rows, module, n, i))
            for n, slots in enumerate(module.rows)
        ]
    columns = enumerate(module.columns)
    return entries + [
        Entry(product.weight, product.columns, slots, partial(_columns, module, n))
        for n, slots in columns
    ]


def _delta(module: OvergrownLayer, i: int, split_eps: Tensor, _: Tensor) -> Tensor:
    block = module.perturbation(split_eps)
    if block is None or (found := block[i]) is None:
        raise InternalError("a layer without split candidates was asked for their directions")
    return found if i else module.product.oriented(found)


def _rows(module: OvergrownLayer, number: int, i: int, _: Tensor, __: Tensor) -> Tensor:
    found = module.incoming_of(number)[i]
    return found if i else module.product.oriented(found)


def _columns(module: OvergrownLayer, number: int, _: Tensor, new_eps: Tensor) -> Tensor:
    return module.product.oriented(module.columns_of(number, new_eps))
