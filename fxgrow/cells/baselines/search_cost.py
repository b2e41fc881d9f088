"""The multiply-adds of a supernet's passes, counted once on the meta device and added up afterwards.

What one image costs is linear in the choice: a fixed part (stem, preprocessing, classifier) and every chosen operation
on every edge, which costs the same on every edge of the same stride. So one pass tells what any choice costs.
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
"""One forward pass, in forward passes."""
ACTIVATION_GRADIENTS = 1
"""The part of a backward pass that gradients of the architecture need."""
WEIGHT_GRADIENTS = 1
"""The part that gradients of weights need besides."""
TRAINING_FACTOR = FORWARD + ACTIVATION_GRADIENTS + WEIGHT_GRADIENTS

EdgeCosts = Sequence[Mapping[Operation, int]]


@dataclass(frozen=True)
class SearchCost:
    """Multiply-adds of one image's forward pass: ``fixed``, and per edge and operation over all cells of a kind."""

    fixed: int
    edges: Mapping[CellKind, EdgeCosts]

    @property
    def mixture(self) -> int:
        """With every operation on every edge."""
        return self.fixed + sum(
            sum(edge.values()) for edges in self.edges.values() for edge in edges
        )

    def path(self, space: SearchSpace, genotype: Genotype) -> int:
        """With the operations of a genotype alone."""
        paths = single_path(space, genotype)
        return self.fixed + sum(_chosen(paths[kind], edges) for kind, edges in self.edges.items())


def _chosen(path: SinglePath, edges: EdgeCosts) -> int:
    return sum(edges[edge][name] for edge, names in path.chosen.items() for name in names)


def search_cost(space: SearchSpace, supernet: Supernet, image: Sequence[int]) -> SearchCost:
    """Count ``supernet`` for one image of shape ``image`` (channels, height, width); nothing is computed."""
    counts = _count(space, supernet, image)
    edges = {kind: [dict.fromkeys(space.real, 0) for _ in range(space.edges)] for kind in CellKind}
    for number, cell in enumerate(supernet.cells):
        for edge, costs in enumerate(edges[cell.kind]):  # type: ignore[index]
            for name in space.real:
                costs[name] += counts[_name(number, _like(space, edge), name)]
    probed = (
        counts[_name(number, edge, name)]
        for number in range(space.cells)
        for edge, names in _probe(space).chosen.items()
        for name in names
    )
    return SearchCost(counts[""] - sum(probed), edges)


def _name(cell: int, edge: int, operation: Operation) -> str:
    return f"cells.{cell}.edges.{edge}.{operation}"


def _like(space: SearchSpace, edge: int) -> int:
    """The first edge of a cell that costs the same: edges from the inputs are alike, and so are all others."""
    source = next(
        edge - space.incoming(state)[0] for state in space.states if edge in space.incoming(state)
    )
    return 0 if source < INPUT_STATES else space.incoming(INPUT_STATES + 1)[INPUT_STATES]


def _probe(space: SearchSpace) -> SinglePath:
    """Everything on one edge of each sort; one operation into every other node, which need some input."""
    links = {space.incoming(state)[0]: space.real[:1] for state in space.states}
    return SinglePath({**links, **{_like(space, edge): space.real for edge in range(space.edges)}})


def _count(space: SearchSpace, supernet: Supernet, image: Sequence[int]) -> Counter[str]:
    """The multiply-adds of every module on the probe, by its name in the supernet; the whole has an empty name."""
    bare = copy.deepcopy(supernet).to("meta")
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        bare(torch.empty(1, *image, device="meta"), dict.fromkeys(CellKind, _probe(space)))
    root = type(supernet).__name__
    named = {
        name.removeprefix(root).removeprefix("."): flops
        for name, flops in counter.get_flop_counts().items()
    }
    return Counter({name: sum(flops.values()) // 2 for name, flops in named.items()})
