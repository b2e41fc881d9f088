"""Random cells, the control of every search.

Reference: the random baseline of Liu, Simonyan, Yang, "DARTS", ICLR 2019, Sec. 3.2. Every node takes two different
states before it, every edge an operation, all equally likely. How we differ: one cell is drawn and none is trained;
DARTS keeps the best of 24 by validation accuracy, which whoever compares can do by drawing with 24 seeds.
"""

import torch

from fxgrow.cells.genotype import GENOTYPE_VERSION, Cell, Edge, Genotype
from fxgrow.cells.result import SearchListener, SearchResult, Stopwatch, no_callback, search_result
from fxgrow.cells.space import EDGES_PER_NODE, SearchSpace
from fxgrow.data import DataSet
from fxgrow.spec import StrictModel


class RandomCells(StrictModel):
    """A genotype drawn without a look at the data."""

    def search(
        self,
        space: SearchSpace,
        train: DataSet,
        valid: DataSet,
        *,
        seed: int = 0,
        callback: SearchListener = no_callback,
    ) -> SearchResult:
        """Draw it from ``seed``; costs no multiply-adds."""
        clock = Stopwatch.start()
        genotype = random_genotype(space, torch.Generator().manual_seed(seed))
        return search_result(clock, self, space, seed, genotype, multiply_adds=0)


def random_genotype(space: SearchSpace, generator: torch.Generator) -> Genotype:
    """Both cells, drawn apart."""
    normal, reduction = (_cell(space, generator) for _ in range(2))
    return Genotype(schema_version=GENOTYPE_VERSION, normal=normal, reduce=reduction)


def _cell(space: SearchSpace, generator: torch.Generator) -> Cell:
    nodes = tuple(_node(space, state, generator) for state in space.states)
    return Cell(nodes=nodes, concat=tuple(space.states))


def _node(space: SearchSpace, state: int, generator: torch.Generator) -> tuple[Edge, ...]:
    sources = sorted(torch.randperm(state, generator=generator)[:EDGES_PER_NODE].tolist())
    chosen = torch.randint(len(space.real), (EDGES_PER_NODE,), generator=generator).tolist()
    return tuple(
        Edge(operation=space.real[number], source=source)
        for source, number in zip(sources, chosen, strict=True)
    )
