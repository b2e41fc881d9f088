"""What the rules of the twin transform read and write while a graph is walked."""

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from fxgrow.coupling import Coupling
from fxgrow.rewrite.candidates import Candidates, Entry, Slots
from fxgrow.rewrite.lanes import Environment
from fxgrow.rewrite.linear_op import LinearOp
from fxgrow.rewrite.linear_use import LinearUse, attribute_at, match_linear
from fxgrow.rewrite.rewriter import Rewriter
from fxgrow.surgery import carrier_entries, run_starts

INSERTED = "fxgrow_grown"


@dataclass
class RewriteContext:
    """Everything that rules read and write while the graph is walked."""

    model: nn.Module
    old: fx.GraphModule
    coupling: Coupling
    candidates: Candidates
    rewriter: Rewriter
    generator: torch.Generator
    untensored: frozenset[str] = frozenset()
    env: Environment = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    eps_nodes: list[fx.Node] = field(default_factory=list)
    made: dict[Any, str] = field(default_factory=dict)

    @cached_property
    def names(self) -> dict[int, str]:
        """The name of every tensor, a tied one's first, by its id."""
        return {
            id(t): name for name, t in (*self.old.named_buffers(), *self.old.named_parameters())
        }

    @cached_property
    def readings(self) -> dict[fx.Node, LinearUse]:
        """Every node that reads or writes neurons and is a product with a weight."""
        found = {
            node: match_linear(self.old, node, self.names)
            for node in self.old.graph.nodes
            if self.multiplies(node)
        }
        return {node: one for node, one in found.items() if one is not None}

    @cached_property
    def sources(self) -> frozenset[fx.Node]:
        """The nodes that lead from parameters to products: they have no lanes."""
        return frozenset().union(*(one.sources for one in self.readings.values()))

    @cached_property
    def users(self) -> dict[str, LinearOp]:
        """The (first) product that uses a parameter."""
        pairs = [
            (name, one.product) for one in self.readings.values() for name in one.product.names
        ]
        return dict(reversed(pairs))

    def multiplies(self, node: fx.Node) -> bool:
        """Whether a node reads or writes neurons."""
        return any(book.get(node.name) for book in (self.coupling.reads, self.coupling.writes))

    @property
    def holder(self) -> nn.Module:
        """The module that holds everything inserted."""
        return self.rewriter.root.get_submodule(INSERTED)

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
        return Slots(
            width,
            torch.from_numpy(
                np.concatenate([np.repeat(candidates, n) for n in lengths[last[starts]]])
            ),
        )

    def parameters(self, node: fx.Node) -> list[tuple[str, int, Tensor]]:
        """(name in the user's module, axis, tensor) of every labelled axis that a call_module or get_attr node owns."""
        found = (
            []
            if node.op not in ("get_attr", "call_module")
            else [attribute_at(self.old, str(node.target))]
        )
        if node.op == "call_module":
            found = [*found[0].parameters(), *found[0].buffers()]
        named = [(self.names[id(tensor)], tensor) for tensor in found if id(tensor) in self.names]
        return [
            (n, axis, t)
            for n, t in named
            for axis in range(t.dim())
            if (n, axis) in self.coupling.owners
        ]

    def touched(self, node: fx.Node) -> frozenset[int]:
        """Numbers of the widths that a node reads, writes, or holds parameters of."""
        books = self.coupling.reads, self.coupling.writes
        owned = (self.widths_of(name, axis) for name, axis, _ in self.parameters(node))
        return frozenset().union(*(book.get(node.name, frozenset()) for book in books), *owned)

    def carrier(self, name: str, axis: int, tensor: Tensor, width: int) -> str:
        """Where the values lie that the new neurons of a width have in a parameter or buffer that carries them."""
        key = (name, axis, width)
        if key not in self.made:
            slots = self.slots(name, axis, width)
            owner = self.model.get_submodule(name.rpartition(".")[0])
            values = carrier_entries(
                owner, name, tensor, axis, len(slots.candidate), self.generator
            )
            target = self.hold(
                key, f"{name}_{axis}_{width}", values, learnt=isinstance(tensor, nn.Parameter)
            )
            self.entries.append(
                Entry(name, axis, slots, partial(_itself, attribute_at(self.rewriter.root, target)))
            )
        return self.made[key]

    def hold(self, key: Any, stem: str, value: nn.Module | Tensor, learnt: bool = False) -> str:
        """Put something into the holder, under a free name like ``stem``; gives back its target."""
        name = stem.replace(".", "_")
        while hasattr(self.holder, name):
            name += "_"
        if isinstance(value, nn.Module):
            self.holder.add_module(name, value)
        elif learnt:
            self.holder.register_parameter(name, nn.Parameter(value))
        else:
            self.holder.register_buffer(name, value)
        return self.made.setdefault(key, f"{INSERTED}.{name}")


def _itself(tensor: Tensor, _: Tensor, __: Tensor) -> Tensor:
    return tensor
