"""What a cell search chooses from: one description, so that every method searches the same space.

The default is that of Wu et al., "Firefly Neural Architecture Descent", NeurIPS 2020, Sec. 3: separable and dilated
convolutions of two sizes and the identity on every edge, in a network of five cells. ``DARTS_OPERATIONS`` are those of
Liu, Simonyan, Yang, "DARTS", ICLR 2019.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from fxgrow.cells.genotype import INPUT_STATES, STATES, Cell, Genotype, Operation
from fxgrow.documents import limits
from fxgrow.spec import StrictModel

NONE: Literal["none"] = "none"
"""No edge at all: a choice while searching, never part of a genotype."""
Choosable = Operation | Literal["none"]
EDGES_PER_NODE = 2
"""A derived cell keeps so many incoming edges per node, from different states."""

FIREFLY_OPERATIONS: tuple[Choosable, ...] = (
    "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
)  # fmt: skip
DARTS_OPERATIONS: tuple[Choosable, ...] = (
    "none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3",
    "dil_conv_5x5",
)  # fmt: skip


class SearchSpace(StrictModel):
    """The operations that every edge chooses from, and the network that is searched in.

    ``nodes``: intermediate states of a cell, each of which can be reached from all states before it; ``cells``: how
    many are stacked, ``channels``: of the first. Three cells at least: below that there is none of one of the kinds.
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
        """How many edges a cell has: one from every state to every later one that is no input."""
        return sum(self.states)

    def incoming(self, state: int) -> range:
        """The numbers of the edges into ``state``, that from state 0 first."""
        start = sum(range(INPUT_STATES, state))
        return range(start, start + state)

    def __contains__(self, genotype: Genotype) -> bool:
        """Whether a search in this space could have found ``genotype``."""
        return all(self._holds(cell) for cell in (genotype.normal, genotype.reduce))

    def _holds(self, cell: Cell) -> bool:
        kept = all(
            len(edges) == EDGES_PER_NODE == len({edge.source for edge in edges})
            and {edge.operation for edge in edges} <= set(self.real)
            for edges in cell.nodes
        )
        return kept and cell.concat == tuple(self.states) and len(cell.nodes) == self.nodes
