"""The search space of cells: one description, so that every method searches the same space.

The default is that of Wu et al., "Firefly Neural Architecture Descent", NeurIPS 2020, Sec. 3:
separable and dilated convolutions of two sizes and the identity on every edge, in a network of five
cells. ``DARTS_OPERATIONS`` are those of Liu, Simonyan, Yang, "DARTS", ICLR 2019.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Within
from fxgrow.cells.genotype import INPUT_STATES, STATES, Cell, Edge, Genotype, Operation
from fxgrow.documents import limits
from fxgrow.spec import StrictModel

NONE: Literal["none"] = "none"
"""No edge at all: a choice in the search, never part of a genotype."""
Choosable = Operation | Literal["none"]
EDGES_PER_NODE = 2
"""A derived cell keeps so many incoming edges per node, from different states."""

FIREFLY_OPERATIONS: tuple[Choosable, ...] = (
    "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
)  # fmt: skip
DARTS_OPERATIONS: tuple[Choosable, ...] = (
    "none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5",
    "dil_conv_3x3", "dil_conv_5x5",
)  # fmt: skip


State = Annotated[int, Within(0, STATES)]
"""A state of a cell."""


class SearchSpace(StrictModel):
    """The operations that every edge chooses from, and the network that is searched in.

    Args:
        operations: the operations, each once and at least one besides ``none``.
        nodes: number of intermediate states of a cell; edges lead there from all earlier states.
        cells: number of stacked cells, three at least: fewer have none of one of the kinds.
        channels: channels of the nodes of the first cell.

    Raises:
        ArgumentError: ``bad-setting``: a value is out of range, or an operation is named twice.

    Example:
        >>> space = SearchSpace(operations=("skip_connect", "sep_conv_3x3"), nodes=2)
        >>> space.edges
        5
        >>> GENOTYPES["DARTS_V2"] in space
        False
    """

    operations: Annotated[tuple[Choosable, ...], Field(min_length=1)] = FIREFLY_OPERATIONS
    nodes: int = Field(default=4, ge=1, le=STATES - INPUT_STATES)
    cells: int = Field(default=5, ge=3, le=limits.OPTION_COUNT)
    channels: int = Field(default=16, ge=1, le=limits.OPTION_LENGTH)

    @field_validator("operations")
    @classmethod
    def _can_be_told_apart(cls, operations: tuple[Choosable, ...]) -> tuple[Choosable, ...]:
        if len(set(operations)) < len(operations):
            raise ValueError("an operation is named twice")
        # An edge of a genotype needs a real operation.
        if set(operations) == {NONE}:
            raise ValueError("nothing but none leaves no cell")
        return operations

    @property
    def real(self) -> tuple[Operation, ...]:
        """The operations that a genotype can have: all but ``none``."""
        return tuple(operation for operation in self.operations if operation != NONE)

    @property
    def states(self) -> range:
        """The intermediate states."""
        return range(INPUT_STATES, INPUT_STATES + self.nodes)

    @property
    def edges(self) -> int:
        """The number of edges of a cell: one from every state to every later intermediate one."""
        return sum(self.states)  # state s has s incoming edges

    @checked
    def incoming(self, state: State) -> range:
        """The numbers of the edges into ``state``, that from state 0 first."""
        # Edges are numbered state by state, and each earlier state s has s of them.
        start = sum(range(INPUT_STATES, state))
        return range(start, start + state)

    def __contains__(self, genotype: Genotype) -> bool:
        """Whether a search in this space could have found ``genotype``."""
        return self._contains_cell(genotype.normal) and self._contains_cell(genotype.reduce)

    def _contains_cell(self, cell: Cell) -> bool:
        if len(cell.nodes) != self.nodes or cell.concat != tuple(self.states):
            return False
        return all(map(self._contains_node, cell.nodes))

    def _contains_node(self, edges: tuple[Edge, ...]) -> bool:
        """Whether a node has two edges, from different states, with operations of this space."""
        sources = {edge.source for edge in edges}
        operations = {edge.operation for edge in edges}
        has_two_sources = len(edges) == len(sources) == EDGES_PER_NODE
        return has_two_sources and operations <= set(self.real)
