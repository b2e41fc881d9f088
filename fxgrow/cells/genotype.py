"""What a cell search finds: the genotype of a normal and of a reduction cell, as data.

References: Zoph et al. 2018 (cells of two kinds, repeated); Liu, Simonyan, Yang, "DARTS", ICLR 2019 (the operations and
the form). A cell has two inputs, states 0 and 1: what the two cells before it gave. Every node adds up its incoming
edges and is the next state, from 2 on; the cell gives the states in ``concat``, concatenated in that order.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fxgrow.spec import Document, StrictModel, canonical_json, digest, read_text

GENOTYPE_VERSION: Literal[1] = 1
INPUT_STATES = 2
"""The states that a cell is given."""
_MAX_FILE_BYTES = 2**20

Operation = Literal[
    "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7", "dil_conv_3x3",
    "dil_conv_5x5", "conv_7x1_1x7",
]  # fmt: skip
STATES = 64
"""At most so many states a cell may have."""
StateName = Annotated[int, Field(ge=0, lt=STATES)]


class Edge(StrictModel):
    """An operation on the state ``source``."""

    operation: Operation
    source: StateName


Node = Annotated[tuple[Edge, ...], Field(min_length=1, max_length=512)]


class Cell(StrictModel):
    """The incoming edges of every node, in order, and the states that are the output.

    Raises ``pydantic.ValidationError`` unless edges come from earlier states and ``concat`` names different ones.
    """

    nodes: Annotated[tuple[Node, ...], Field(min_length=1, max_length=STATES - INPUT_STATES)]
    concat: Annotated[tuple[StateName, ...], Field(min_length=1, max_length=STATES)]

    @model_validator(mode="after")
    def _refers_to_states_that_are_there(self) -> "Cell":
        for state, edges in enumerate(self.nodes, INPUT_STATES):
            late = next((edge.source for edge in edges if edge.source >= state), None)
            if late is not None:
                raise ValueError(f"state {state} needs state {late}, which is not there yet")
        absent = next((state for state in self.concat if state >= self.states), None)
        if absent is not None:
            raise ValueError(f"the output needs state {absent} of {self.states}")
        if len(set(self.concat)) < len(self.concat):
            raise ValueError("the output names a state twice")
        return self

    @property
    def states(self) -> int:
        """How many states there are: the inputs and one per node."""
        return INPUT_STATES + len(self.nodes)


class Genotype(StrictModel):
    """A normal cell, which keeps the size of its input, and a reduction cell, which halves it."""

    schema_version: Literal[1]
    normal: Cell
    reduce: Cell

    @property
    def fingerprint(self) -> str:
        """SHA-256 of both cells' canonical JSON; the order of edges counts, the schema version does not."""
        return digest(self.model_dump(mode="json", include={"normal", "reduce"}))


GENOTYPE_DOCUMENT = Document("genotype", Genotype, GENOTYPE_VERSION)


def read_genotype(path: Path) -> Genotype:
    """The genotype in a JSON file. Raises ``SpecError`` with code and path."""
    return GENOTYPE_DOCUMENT.read(read_text(path, _MAX_FILE_BYTES), str(path))


def genotype_text(genotype: Genotype) -> str:
    """The genotype as canonical JSON, as files hold it."""
    return canonical_json(genotype.model_dump(mode="json")).decode()
