"""What the rewrite rules read and write while a graph is walked."""

import operator
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor, fx, nn

from fxgrow.coupling import Coupling
from fxgrow.rewrite.candidates import Candidates, Slots
from fxgrow.rewrite.entries import Entry
from fxgrow.rewrite.equation_use import match_equation
from fxgrow.rewrite.lanes import Environment
from fxgrow.rewrite.linear_op import LinearOp
from fxgrow.rewrite.linear_use import LinearUse, attribute_at, match_linear
from fxgrow.rewrite.overgrown_layer import CandidateBlocks, OvergrownLayer
from fxgrow.rewrite.recurrent import recurrent_module, recurrent_weights
from fxgrow.rewrite.rewriter import Provenance, Rewriter
from fxgrow.surgery import carrier_entries, normalized_weights, run_starts

INSERTED = "fxgrow_grown"
"""The name of the module that holds everything inserted."""

LabeledAxis = tuple[str, int, Tensor]
"""(Name in the user's module, axis, tensor) of an axis along which neurons lie."""


@dataclass
class RewriteContext:
    """Everything that rules read and write while the graph is walked.

    Args:
        model: the user's model.
        old: the graph module to rewrite.
        coupling: the neurons of the model.
        candidates: the eps of all candidates.
        rewriter: builds the new graph.
        generator: draws the values of carriers.
        tensorless: names of nodes that give no tensors (sizes, say).
        env: the lanes of each node that has been rewritten.
        entries: what emission adds to which parameter, so far.
        eps_nodes: the nodes of ``split_eps`` and ``new_eps`` in the new graph.
        scaled_node: the node that gives the candidates' weights of all ``layers``.
        layers: the layers with candidates in the new graph by their targets.
        targets: where in the new root things have been inserted, by a key of their kind.
        written_constants: the constants that neurons are written into (see ``constants``).
    """

    model: nn.Module
    old: fx.GraphModule
    coupling: Coupling
    candidates: Candidates
    rewriter: Rewriter
    generator: torch.Generator
    tensorless: frozenset[str] = frozenset()
    env: Environment = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    eps_nodes: list[fx.Node] = field(default_factory=list)
    scaled_node: fx.Node | None = None
    layers: dict[str, OvergrownLayer] = field(default_factory=dict)
    targets: dict[Hashable, str] = field(default_factory=dict)
    written_constants: Mapping[fx.Node, frozenset[int]] = field(default_factory=dict)
    # What was asked before: every rule asks the same of a node.
    _widths: dict[tuple[str, int], frozenset[int]] = field(default_factory=dict)
    _touched: dict[fx.Node, frozenset[int]] = field(default_factory=dict)

    @cached_property
    def gains(self) -> dict[str, str]:
        """The name of the gain of each weight under weight normalization, by that of its v."""
        return {weight.direction: weight.gain for weight in normalized_weights(self.model)}

    @cached_property
    def names(self) -> dict[int, str]:
        """The name of every tensor (of a tied one the first), by its ``id``."""
        names = {}
        for name, tensor in (*self.old.named_buffers(), *self.old.named_parameters()):
            names[id(tensor)] = name
        return names

    @cached_property
    def linear_uses(self) -> dict[fx.Node, LinearUse]:
        """Every node that reads or writes neurons and is a product with a weight."""
        uses = {}
        for node in self.old.graph.nodes:
            if not self.is_linear(node):
                continue
            use = match_linear(self.old, node, self.names) or match_equation(
                self.old, node, self.names, self.coupling
            )
            if use is not None:
                uses[node] = use
        return uses

    @cached_property
    def recurrent_products(self) -> dict[fx.Node, tuple[LinearOp, ...]]:
        """The products that each recurrent module consists of, where all weights have names."""
        products: dict[fx.Node, tuple[LinearOp, ...]] = {}
        for node in self.old.graph.nodes:
            module = recurrent_module(self.old, node)
            if module is None:
                continue
            found = [weight.product(module, self.names) for weight in recurrent_weights(module)]
            known = tuple(product for product in found if product is not None)
            if len(known) == len(found):
                products[node] = known
        return products

    @cached_property
    def parameter_nodes(self) -> frozenset[fx.Node]:
        """The nodes that lead from parameters to products: they have no lanes."""
        nodes: set[fx.Node] = set()
        for use in self.linear_uses.values():
            nodes.update(use.sources)
        return frozenset(nodes)

    @cached_property
    def op_by_parameter(self) -> dict[str, LinearOp]:
        """The product that uses a parameter; the first one if several do."""
        products = [use.product for use in self.linear_uses.values()]
        for of_module in self.recurrent_products.values():
            products += of_module
        ops: dict[str, LinearOp] = {}
        for product in products:
            for name in product.names:
                ops.setdefault(name, product)
        return ops

    def is_linear(self, node: fx.Node) -> bool:
        """Whether a node reads or writes neurons."""
        reads = self.coupling.reads.get(node.name)
        writes = self.coupling.writes.get(node.name)
        return bool(reads or writes)

    @property
    def holder(self) -> nn.Module:
        """The module that holds everything inserted."""
        return self.rewriter.root.get_submodule(INSERTED)

    def widths_of(self, name: str, axis: int | None) -> frozenset[int]:
        """Numbers of the widths that own indices of one axis of a parameter; none if it is None."""
        if axis is None:
            return frozenset()
        if (name, axis) not in self._widths:
            self._widths[name, axis] = self.coupling.widths_along(name, axis)
        return self._widths[name, axis]

    def slots(self, name: str, axis: int, width: int) -> Slots:
        """The indices that the new neurons of a width take, if an axis consisted of them alone.

        New neurons follow each run of the last old neuron. A run of length 49 (a flattened 7x7
        map) means that each new neuron takes 49 indices there.

        Args:
            name: a parameter.
            axis: an axis of it.
            width: the number of the width.

        Returns:
            The slots, as many as the axis gains.
        """
        owners = self.coupling.owners[name, axis]
        starts = run_starts(owners.width, owners.neuron)
        lengths = np.diff(starts, append=len(owners.width))
        last_neuron = self.coupling.widths[width].size - 1
        is_last = (owners.width == width) & (owners.neuron == last_neuron)
        eps_slice = self.candidates.new[width]
        candidates = np.arange(eps_slice.start, eps_slice.stop)
        blocks = []
        for length in lengths[is_last[starts]]:
            blocks.append(np.repeat(candidates, length))
        candidate = torch.from_numpy(np.concatenate(blocks))
        return Slots(width, candidate, width in self.candidates.under_norms)

    def labeled_axes(self, node: fx.Node) -> list[LabeledAxis]:
        """The axes along which neurons lie in what a call_module or get_attr node holds."""
        axes = []
        for tensor in self._tensors_of(node):
            name = self.names.get(id(tensor))
            if name is None:
                continue
            for axis in range(tensor.dim()):
                if (name, axis) in self.coupling.owners:
                    axes.append((name, axis, tensor))
        return axes

    def _tensors_of(self, node: fx.Node) -> list[Tensor]:
        if node.op not in ("get_attr", "call_module"):
            return []
        value = attribute_at(self.old, str(node.target))
        if node.op == "get_attr":
            return [value]
        return [*value.parameters(), *value.buffers()]

    def holds_width(self, node: fx.Node, width: int) -> bool:
        """Whether neurons of a width lie along an axis of what a node holds."""
        return any(width in self.widths_of(name, axis) for name, axis, _ in self.labeled_axes(node))

    def touched(self, node: fx.Node) -> frozenset[int]:
        """Numbers of the widths that a node reads, writes, or holds parameters of."""
        # Every rule asks, and so do the checks.
        if node not in self._touched:
            self._touched[node] = self._find_touched(node)
        return self._touched[node]

    def _find_touched(self, node: fx.Node) -> frozenset[int]:
        widths: set[int] = set()
        widths.update(self.coupling.reads.get(node.name, ()))
        widths.update(self.coupling.writes.get(node.name, ()))
        for name, axis, _ in self.labeled_axes(node):
            widths.update(self.widths_of(name, axis))
        return frozenset(widths)

    def blocks_of(self, target: str) -> fx.Node:
        """A node that gives the candidates' weights of the layer at a target."""
        place = list(self.layers).index(target)
        return self.rewriter.call_function(
            operator.getitem, (self.scaled_node, place), Provenance("layer")
        )

    def carrier(self, name: str, axis: int, tensor: Tensor, width: int) -> str:
        """Where the values of new neurons in a tensor that carries them lie; inserted if need be.

        Those of a width under norms are constants: its rules say what they are. Parameters that
        write it have ``writing_carrier``.

        Args:
            name: a parameter or buffer.
            axis: the axis along which the neurons lie.
            tensor: the parameter or buffer itself.
            width: the number of the width.

        Returns:
            The target in the new root.
        """
        key = (name, axis, width)
        if key not in self.targets:
            slots = self.slots(name, axis, width)
            owner = self.model.get_submodule(name.rpartition(".")[0])
            count = len(slots.candidate)
            rule = self.coupling.site_rules.get((name, axis))
            is_learned = isinstance(tensor, nn.Parameter)
            stem = f"{name}_{axis}_{width}"
            if rule is not None:  # emission knows its values
                values = rule.beyond_mean(tensor.detach(), count)
                target = self.insert(key, stem, values, learned=is_learned)
                attribute_at(self.rewriter.root, target).requires_grad_(requires_grad=False)
                return target
            begun = self.coupling.widths[width].begun
            values = carrier_entries(owner, name, tensor, axis, count, self.generator, begun)
            target = self.insert(key, stem, values, learned=is_learned)
            inserted = attribute_at(self.rewriter.root, target)
            self.entries.append(Entry(name, axis, slots, None, partial(_itself, inserted)))
        return self.targets[key]

    def writing_carrier(
        self, name: str, axis: int, tensor: Tensor, width: int
    ) -> tuple[str, float]:
        """Where the values of new neurons lie that a parameter writes under norms; 0 at first.

        Args:
            name, axis, tensor, width: as for ``carrier``.

        Returns:
            The target in the new root, and the unit by which it is multiplied beside eps.
        """
        unit = float(tensor.detach().double().square().mean().sqrt()) or 1.0
        key = ("written", name, axis, width)
        if key not in self.targets:
            slots = self.slots(name, axis, width)
            shape = list(tensor.shape)
            shape[axis] = len(slots.candidate)
            values = tensor.detach().new_zeros(shape)
            target = self.insert(key, f"{name}_{axis}_{width}", values, learned=True)
            inserted = attribute_at(self.rewriter.root, target)
            self.entries.append(Entry(name, axis, slots, None, partial(_itself, inserted), unit))
        return self.targets[key], unit

    def insert(
        self, key: Hashable, stem: str, value: nn.Module | Tensor, learned: bool = False
    ) -> str:
        """Put a module or tensor into the holder, under a free name like ``stem``.

        Args:
            key: what ``targets`` remembers it by.
            stem: the name that is wished for.
            value: the module or tensor.
            learned: a tensor becomes a parameter, else a buffer.

        Returns:
            Its target in the new root.
        """
        name = stem.replace(".", "_")
        while hasattr(self.holder, name):
            name += "_"
        if isinstance(value, nn.Module):
            self.holder.add_module(name, value)
        elif learned:
            self.holder.register_parameter(name, nn.Parameter(value))
        else:
            self.holder.register_buffer(name, value)
        return self.targets.setdefault(key, f"{INSERTED}.{name}")


def _itself(tensor: Tensor, _: CandidateBlocks) -> Tensor:
    """The values of an ``Entry`` that has no eps."""
    return tensor
