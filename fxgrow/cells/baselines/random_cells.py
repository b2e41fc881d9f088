"""Random cells, the control of every search.

Reference: the random baseline of Liu, Simonyan, Yang, "DARTS", ICLR 2019, Sec. 3.2. Every node
takes two different earlier states, every edge an operation, all equally likely. How we differ: one
cell is drawn and none is trained; DARTS keeps the best of 24 by validation accuracy, which a
comparison can do by drawing with 24 seeds.
"""

import torch

from fxgrow.cells.genotype import GENOTYPE_VERSION, Cell, Edge, Genotype
from fxgrow.cells.result import SearchListener, SearchResult, no_callback, search_result
from fxgrow.cells.space import EDGES_PER_NODE, SearchSpace
from fxgrow.data import DataSet
from fxgrow.spec import StrictModel
from fxgrow.timing import Stopwatch


class RandomCells(StrictModel):
    """A genotype drawn at random; the data are not used."""

    def search(
        self,
        space: SearchSpace,
        train: DataSet,
        valid: DataSet,
        *,
        seed: int = 0,
        callback: SearchListener = no_callback,
    ) -> SearchResult:
        """Draw a genotype from ``seed``; costs no multiply-adds."""
        stopwatch = Stopwatch.start()
        genotype = random_genotype(space, torch.Generator().manual_seed(seed))
        return search_result(stopwatch, self, space, seed, genotype, multiply_adds=0)


def random_genotype(space: SearchSpace, generator: torch.Generator) -> Genotype:
    """Draw both cells, independently.

    Args:
        space: the search space.
        generator: draws first the normal cell, then the reduction cell.

    Returns:
        A genotype of the space.
    """
    normal = _cell(space, generator)
    reduction = _cell(space, generator)
    return Genotype(schema_version=GENOTYPE_VERSION, normal=normal, reduce=reduction)


def _cell(space: SearchSpace, generator: torch.Generator) -> Cell:
    nodes = tuple(_node(space, state, generator) for state in space.states)
    return Cell(nodes=nodes, concat=tuple(space.states))


def _node(space: SearchSpace, state: int, generator: torch.Generator) -> tuple[Edge, ...]:
    # The first numbers of a random permutation: different states, all pairs equally likely.
    sources = sorted(torch.randperm(state, generator=generator)[:EDGES_PER_NODE].tolist())
    choices = torch.randint(len(space.real), (EDGES_PER_NODE,), generator=generator).tolist()
    edges = []
    for source, choice in zip(sources, choices, strict=True):
        edges.append(Edge(operation=space.real[choice], source=source))
    return tuple(edges)
