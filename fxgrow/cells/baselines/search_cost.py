"""The multiply-adds of a supernet's passes, counted once on the meta device and then added up.

The cost of one image is linear in the choice: a fixed part (stem, preprocessing, classifier) and
every chosen operation on every edge, which costs the same on every edge of the same stride. So one
pass gives the cost of any choice.
"""

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from fxgrow.cells.baselines.supernet import SinglePath, Supernet, single_path
from fxgrow.cells.genotype import INPUT_STATES, Genotype, Operation
from fxgrow.cells.space import SearchSpace
from fxgrow.cells.stack import CellKind

FORWARD = 1
"""Cost of a forward pass, in forward passes."""
ACTIVATION_GRADIENTS = 1
"""Cost of the part of a backward pass that gradients of the architecture need."""
WEIGHT_GRADIENTS = 1
"""Cost of the part that gradients of weights need besides."""
TRAINING_FACTOR = FORWARD + ACTIVATION_GRADIENTS + WEIGHT_GRADIENTS

EdgeCosts = Sequence[Mapping[Operation, int]]


@dataclass(frozen=True)
class SearchCost:
    """Multiply-adds of one image's forward pass.

    ``fixed``: without the edges; ``edges``: per edge and operation, over all cells of a kind.
    """

    fixed: int
    edges: Mapping[CellKind, EdgeCosts]

    @property
    def mixture(self) -> int:
        """The cost with every operation on every edge."""
        total = self.fixed
        for edges in self.edges.values():
            for costs in edges:
                total += sum(costs.values())
        return total

    def path(self, space: SearchSpace, genotype: Genotype) -> int:
        """The cost with the operations of a genotype alone."""
        paths = single_path(space, genotype)
        total = self.fixed
        for kind, edges in self.edges.items():
            for edge, names in paths[kind].chosen.items():
                for name in names:
                    total += edges[edge][name]
        return total


def search_cost(space: SearchSpace, supernet: Supernet, image: Sequence[int]) -> SearchCost:
    """Count the multiply-adds of a supernet; nothing is computed.

    Args:
        space: the search space.
        supernet: the supernet of this space.
        image: shape of one image, (channels, height, width).

    Returns:
        The fixed cost and that of every operation.
    """
    counts = _count_modules(space, supernet, image)
    edges: dict[CellKind, list[dict[Operation, int]]] = {}
    for kind in CellKind:
        edges[kind] = [dict.fromkeys(space.real, 0) for _ in range(space.edges)]
    for number, cell in enumerate(supernet.cells):
        for edge, costs in enumerate(edges[cell.kind]):  # type: ignore[index]
            counted_edge = _first_alike(space, edge)
            for name in space.real:
                costs[name] += counts[_module_name(number, counted_edge, name)]
    # What the counted pass has spent on edges is taken off the whole; the rest is fixed.
    on_edges = 0
    for number in range(space.cells):
        for edge, names in _counted_path(space).chosen.items():
            for name in names:
                on_edges += counts[_module_name(number, edge, name)]
    return SearchCost(counts[""] - on_edges, edges)


def _module_name(cell: int, edge: int, operation: Operation) -> str:
    return f"cells.{cell}.edges.{edge}.{operation}"


def _first_alike(space: SearchSpace, edge: int) -> int:
    """The first edge of a cell that costs the same: edges from inputs are alike, and the others."""
    if _source(space, edge) < INPUT_STATES:
        return 0
    # The first edge from an intermediate state: from the first one to the second one.
    return space.incoming(INPUT_STATES + 1)[INPUT_STATES]


def _source(space: SearchSpace, edge: int) -> int:
    """The state that an edge comes from."""
    for state in space.states:
        incoming = space.incoming(state)
        if edge in incoming:
            return edge - incoming[0]
    raise IndexError(f"a cell of {space.nodes} nodes has no edge {edge}")


def _counted_path(space: SearchSpace) -> SinglePath:
    """All operations on one edge of each sort, and one operation into every other node.

    A node needs some input, and an operation that is not run is not counted.
    """
    chosen: dict[int, tuple[Operation, ...]] = {}
    # The first edge of every node; some of these are overwritten below with all operations.
    for state in space.states:
        chosen[space.incoming(state)[0]] = space.real[:1]
    for edge in range(space.edges):
        chosen[_first_alike(space, edge)] = space.real
    return SinglePath(chosen)


def _count_modules(space: SearchSpace, supernet: Supernet, image: Sequence[int]) -> Counter[str]:
    """The multiply-adds of every module on the counted path; the supernet has an empty name."""
    # Tensors on the meta device have shapes and no values.
    on_meta = copy.deepcopy(supernet).to("meta")
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        images = torch.empty(1, *image, device="meta")
        on_meta(images, dict.fromkeys(CellKind, _counted_path(space)))
    root = type(supernet).__name__
    counts: Counter[str] = Counter()
    for name, flops in counter.get_flop_counts().items():
        # Names begin with the class of the root. A multiply-add is two floating point operations.
        module = name.removeprefix(root).removeprefix(".")
        counts[module] = sum(flops.values()) // 2
    return counts
