"""Rewrite rules of the twin transform, one class per kind of node: ``match``, ``check`` (may refuse), ``rewrite``.

``RULES`` is tried in order; the last one takes everything that is left.
"""

import copy
import operator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, fx, nn

from fxgrow.coupling import Coupling
from fxgrow.errors import InternalError, Refusal
from fxgrow.rewrite.candidates import Candidates, Entry, Slots
from fxgrow.rewrite.grown import GrownLayer
from fxgrow.rewrite.lanes import FRESH, MINUS, PLUS, Environment, Lanes, picked
from fxgrow.rewrite.product import PRODUCTS
from fxgrow.rewrite.rewriter import Provenance, Rewriter
from fxgrow.surgery.attributes import refresh
from fxgrow.surgery.fresh import carrier_entries
from fxgrow.surgery.index_map import run_starts

GROWN = "fxgrow_grown"
EPS = ("fxgrow_candidates.split_eps", "fxgrow_candidates.new_eps")


@dataclass
class Walk:
    """Everything that rules read and write while the graph is walked."""

    old: fx.GraphModule
    coupling: Coupling
    candidates: Candidates
    rewriter: Rewriter
    generator: torch.Generator
    untensored: frozenset[str] = frozenset()
    env: Environment = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    eps_nodes: list[fx.Node] = field(default_factory=list)

    @property
    def holder(self) -> nn.Module:
        """The module that holds everything inserted."""
        return self.rewriter.root.get_submodule(GROWN)

    def widths_of(self, name: str, axis: int) -> frozenset[int]:
        """Numbers of the widths that own places of one axis of a parameter."""
        owners = self.coupling.owners.get((name, axis))
        return frozenset(owners.width.tolist()) - {-1} if owners else frozenset()

    def slots(self, name: str, axis: int, width: int) -> Slots:
        """The places that the new neurons of a width take on an axis, as if the width consisted of them alone."""
        owners = self.coupling.owners[name, axis]
        starts = run_starts(owners.width, owners.neuron)
        lengths = np.diff(starts, append=len(owners.width))
        last = (owners.width == width) & (owners.neuron == self.coupling.widths[width].size - 1)
        candidates = np.arange(self.candidates.new[width].start, self.candidates.new[width].stop)
        return Slots(width, torch.from_numpy(np.concatenate([np.repeat(candidates, n) for n in lengths[last[starts]]])))

    def parameters(self, node: fx.Node) -> list[tuple[str, int, Tensor]]:
        """(name in the user's module, axis, tensor) of every labelled axis that a call_module or get_attr node owns."""
        if node.op == "get_attr":
            tensors = {str(node.target): _attribute(self.old, str(node.target))}
        elif node.op == "call_module":
            module = self.old.get_submodule(str(node.target))
            tensors = {f"{node.target}.{n}": t for n, t in (*module.named_parameters(), *module.named_buffers())}
        else:
            return []
        return [
            (n, axis, t) for n, t in tensors.items() for axis in range(t.dim()) if (n, axis) in self.coupling.owners
        ]

    def touched(self, node: fx.Node) -> frozenset[int]:
        """Numbers of the widths that a node reads, writes, or holds parameters of."""
        books = self.coupling.reads, self.coupling.writes
        owned = (self.widths_of(name, axis) for name, axis, _ in self.parameters(node))
        return frozenset().union(*(book.get(node.name, frozenset()) for book in books), *owned)


class Rule(Protocol):
    """One kind of node. ``check`` says why candidates of a width cannot pass through it (None: they can)."""

    def match(self, walk: Walk, node: fx.Node) -> bool: ...
    def check(self, walk: Walk, node: fx.Node) -> Refusal | None: ...
    def rewrite(self, walk: Walk, node: fx.Node) -> Lanes: ...


class Layer:
    """A node that reads or writes neurons: a convolution or linear layer and its candidates become one module."""

    def match(self, walk: Walk, node: fx.Node) -> bool:
        return any(book.get(node.name) for book in (walk.coupling.reads, walk.coupling.writes))

    def check(self, walk: Walk, node: fx.Node) -> Refusal | None:
        layer = walk.old.get_submodule(str(node.target)) if node.op == "call_module" else None
        if type(layer) in PRODUCTS and len(node.args) == 1 and not node.kwargs:
            return None
        kind = type(layer).__name__ if layer is not None else str(node.target)
        return Refusal("no-rewrite", f"there is no rewrite rule for {kind} as a reader or writer", (node.name,))

    def rewrite(self, walk: Walk, node: fx.Node) -> Lanes:
        source, weight = walk.env[node.all_input_nodes[0]], f"{node.target}.weight"
        lanes = sorted(source.fresh.keys() & walk.widths_of(weight, 1))
        split, rows = self._written(walk, weight)
        if split is None and not rows and not lanes and source.minus is None:
            return Lanes(walk.rewriter.copy(node, picked(walk.env, lambda one: one.plus)))
        key = str(node.target).replace(".", "_")
        if not hasattr(walk.holder, key):
            columns = [walk.slots(weight, 1, width) for width in lanes]
            module = GrownLayer(walk.old.get_submodule(str(node.target)), split, rows, columns)
            walk.holder.add_module(key, module)
            walk.entries += layer_entries(str(node.target), module)
        args = (source.plus, source.minus, [source.fresh[width] for width in lanes], *walk.eps_nodes)
        call = walk.rewriter.call_module(f"{GROWN}.{key}", args, node.name, Provenance("layer"))
        names = [("", PLUS)] + [("", MINUS)] * (split is not None)
        names += [(walk.coupling.widths[slots.width].name, FRESH) for slots in rows]
        parts = [
            walk.rewriter.call_function(operator.getitem, (call, i), Provenance("layer", width, lane))
            for i, (width, lane) in enumerate(names)
        ]
        fresh = dict(zip((slots.width for slots in rows), parts[len(parts) - len(rows) :], strict=True))
        return Lanes(parts[0], parts[1] if split is not None else None, fresh)

    def _written(self, walk: Walk, weight: str) -> tuple[Tensor | None, list[Slots]]:
        """The split candidate of each row (None: none in this layer), and the new neurons that the layer writes."""
        writes = walk.widths_of(weight, 0)
        rows = [walk.slots(weight, 0, width) for width in sorted(writes & walk.candidates.new.keys())]
        if not writes & walk.candidates.split.keys():
            return None, rows
        return walk.candidates.split_index(walk.coupling.owners[weight, 0]), rows


class Parameter:
    """A parameter used as a value (layer scale, position embedding): new neurons have places of their own in it."""

    def match(self, walk: Walk, node: fx.Node) -> bool:
        return node.op == "get_attr" and bool(walk.touched(node))

    def check(self, walk: Walk, node: fx.Node) -> Refusal | None:
        return None

    def rewrite(self, walk: Walk, node: fx.Node) -> Lanes:
        plus = walk.rewriter.copy(node, picked(walk.env, lambda lanes: lanes.plus))
        fresh = {}
        for name, axis, tensor in walk.parameters(node):
            for width in sorted(walk.widths_of(name, axis) & walk.candidates.new.keys()):
                slots = walk.slots(name, axis, width)
                owner = walk.old.get_submodule(name.rpartition(".")[0])
                values = carrier_entries(owner, name, tensor, axis, len(slots.candidate), walk.generator)
                target = f"{GROWN}.{name.replace('.', '_')}_{axis}_{width}"
                walk.rewriter.root.get_submodule(GROWN).register_parameter(
                    target.partition(".")[2], nn.Parameter(values)
                )
                found = _attribute(walk.rewriter.root, target)
                walk.entries.append(Entry(name, axis, slots, partial(_itself, found)))
                fresh[width] = walk.rewriter.get_attr(target, self._provenance(walk, width))
        return Lanes(plus, None, fresh)

    def _provenance(self, walk: Walk, width: int) -> Provenance:
        return Provenance("parameter", walk.coupling.widths[width].name, FRESH)


class Cat:
    """Concatenation: new neurons of a width are in some of the parts only."""

    def match(self, walk: Walk, node: fx.Node) -> bool:
        return node.target in (torch.cat, torch.concat, torch.concatenate)

    def check(self, walk: Walk, node: fx.Node) -> Refusal | None:
        return None

    def rewrite(self, walk: Walk, node: fx.Node) -> Lanes:
        plain = Path().rewrite(walk, node)
        fresh = {}
        for width, lane in plain.fresh.items():
            own = [one for one in lane.args[0] if one in {walk.env[a].fresh.get(width) for a in node.all_input_nodes}]  # type: ignore[union-attr]
            lane.args = (own, *lane.args[1:])
            fresh[width] = lane
        return Lanes(plain.plus, plain.minus, fresh)


class Path:
    """Everything between writer and reader: copied for each lane; new neurons get carriers of their own."""

    def match(self, walk: Walk, node: fx.Node) -> bool:
        return True

    def check(self, walk: Walk, node: fx.Node) -> Refusal | None:
        return None

    def rewrite(self, walk: Walk, node: fx.Node) -> Lanes:
        sources = [walk.env[source] for source in node.all_input_nodes]
        carried = walk.coupling.carries.get(node.name, frozenset())
        number = node.name in walk.untensored
        twin = any(source.minus is not None for source in sources) and bool(carried & walk.candidates.split.keys())
        plus = walk.rewriter.copy(
            node, picked(walk.env, lambda lanes: lanes.plus), Provenance("path", "", PLUS) if twin else None
        )
        minus = None
        if twin:
            minus = walk.rewriter.copy(
                node, picked(walk.env, lambda lanes: lanes.half(minus=True)), Provenance("path", "", MINUS)
            )
        fresh = {}
        for width in sorted({width for source in sources for width in source.fresh if number or width in carried}):
            provenance = Provenance("path", walk.coupling.widths[width].name, FRESH)
            fresh[width] = walk.rewriter.copy(node, picked(walk.env, partial(Lanes.lane, width=width)), provenance)
            if any(width in walk.widths_of(name, axis) for name, axis, _ in walk.parameters(node)):
                fresh[width].target = self._carrier(walk, node, width)
        return Lanes(plus, minus, fresh)

    def _carrier(self, walk: Walk, node: fx.Node, width: int) -> str:
        """A module like the node's own for the new neurons of one width alone."""
        base = walk.old.get_submodule(str(node.target))
        key = f"{str(node.target).replace('.', '_')}_{width}"
        if not hasattr(walk.holder, key):
            carrier = copy.deepcopy(base)
            owned = [(n, a, t) for n, a, t in walk.parameters(node) if width in walk.widths_of(n, a)]
            for name, axis, tensor in owned:
                slots = walk.slots(name, axis, width)
                leaf = name.removeprefix(f"{node.target}.")
                mine = _attribute(carrier, leaf)
                mine.data = carrier_entries(base, name, tensor, axis, len(slots.candidate), walk.generator)
                walk.entries.append(Entry(name, axis, slots, partial(_itself, mine)))
            refresh(carrier)
            for parameter in carrier.parameters():
                parameter.requires_grad_()
            walk.holder.add_module(key, carrier)
        return f"{GROWN}.{key}"


RULES: tuple[Rule, ...] = (Layer(), Parameter(), Cat(), Path())


def layer_entries(stem: str, module: GrownLayer) -> list[Entry]:
    """Where the candidates of a layer go at emission: its weight and bias, per axis."""
    names = (f"{stem}.weight", f"{stem}.bias")
    entries = [
        Entry(name, 0, None, partial(_delta, module, i)) for i, name in enumerate(names[: len(module.delta or ())])
    ]
    for i, name in enumerate(names[: len(module.fresh or ())]):
        entries += [Entry(name, 0, slots, partial(_rows, module, n, i)) for n, slots in enumerate(module.rows)]
    entries += [Entry(names[0], 1, slots, partial(_columns, module, n)) for n, slots in enumerate(module.columns)]
    return entries


def _delta(module: GrownLayer, i: int, split_eps: Tensor, _: Tensor) -> Tensor:
    block = module.perturbation(split_eps)
    if block is None or (found := block[i]) is None:
        raise InternalError("a layer without split candidates was asked for their directions")
    return found


def _rows(module: GrownLayer, number: int, i: int, _: Tensor, __: Tensor) -> Tensor:
    return module.incoming_of(number)[i]


def _columns(module: GrownLayer, number: int, _: Tensor, new_eps: Tensor) -> Tensor:
    return module.columns_of(number, new_eps)


def _itself(tensor: Tensor, _: Tensor, __: Tensor) -> Tensor:
    return tensor


def _attribute(module: nn.Module, path: str) -> Any:
    found: Any = module
    for part in path.split("."):
        found = getattr(found, part)
    return found
