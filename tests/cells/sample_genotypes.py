"""Random genotypes for the tests of this room."""

from typing import get_args

from hypothesis import strategies as st

from fxgrow.cells import Cell, Edge, Genotype
from fxgrow.cells.genotype import INPUT_STATES, Operation


@st.composite
def cells(draw: st.DrawFn, edges: st.SearchStrategy[int]) -> Cell:
    """A cell of one to six nodes; ``edges``: how many a node has."""
    nodes = [
        tuple(
            Edge(
                operation=draw(st.sampled_from(get_args(Operation))),
                source=draw(st.integers(0, state - 1)),
            )
            for _ in range(draw(edges))
        )
        for state in range(INPUT_STATES, INPUT_STATES + draw(st.integers(1, 6)))
    ]
    states = st.integers(0, INPUT_STATES + len(nodes) - 1)
    return Cell(nodes=tuple(nodes), concat=tuple(draw(st.lists(states, min_size=1, unique=True))))


def genotypes(edges: st.SearchStrategy[int]) -> st.SearchStrategy[Genotype]:
    return st.builds(Genotype, schema_version=st.just(1), normal=cells(edges), reduce=cells(edges))


ANY = genotypes(st.integers(1, 4))
PAIRED = genotypes(st.just(2))
