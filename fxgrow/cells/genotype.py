"""What a cell search finds: the genotype of a normal and of a reduction cell, as data.

References: Zoph et al. 2018 (cells of two kinds, repeated); Liu, Simonyan, Yang, "DARTS", ICLR 2019
(the operations and the form). A cell has two inputs, states 0 and 1: the outputs of the two cells
before it. Every node adds up its incoming edges and is the next state, from 2 on; the output of the
cell is the concatenation of the states in ``concat``, in that order.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fxgrow.argument_checks import checked
from fxgrow.spec import Document, StrictModel, canonical_json, digest, read_text

GENOTYPE_VERSION: Literal[1] = 1
INPUT_STATES = 2
"""The states that a cell is given."""
MAX_GENOTYPE_BYTES = 2**20
"""Longer files are refused before they are parsed."""

Operation = Literal[
    "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7",
    "dil_conv_3x3", "dil_conv_5x5", "conv_7x1_1x7",
]  # fmt: skip
STATES = 64
"""The largest number of states that a cell may have."""
StateName = Annotated[int, Field(ge=0, lt=STATES)]


class Edge(StrictModel):
    """An operation on an earlier state.

    Args:
        operation: name of the operation.
        source: number of the state that it is applied to.

    Example:
        >>> Edge(operation="sep_conv_3x3", source=0)
        Edge(operation='sep_conv_3x3', source=0)
    """

    operation: Operation
    source: StateName


Node = Annotated[tuple[Edge, ...], Field(min_length=1, max_length=512)]


class Cell(StrictModel):
    """A cell as a directed graph.

    Args:
        nodes: the incoming edges of every node; node i computes state i + 2.
        concat: the states whose concatenation is the output, in order.

    Raises:
        ArgumentError: ``bad-setting``: an edge does not come from an earlier state, or ``concat``
            names a state that does not exist, or one twice.

    Example:
        >>> edge = Edge(operation="skip_connect", source=0)
        >>> Cell(nodes=((edge,),), concat=(2,)).states
        3
    """

    nodes: Annotated[tuple[Node, ...], Field(min_length=1, max_length=STATES - INPUT_STATES)]
    concat: Annotated[tuple[StateName, ...], Field(min_length=1, max_length=STATES)]

    @model_validator(mode="after")
    def _refers_to_existing_states(self) -> "Cell":
        # Edges from earlier states alone make the graph acyclic.
        for state, edges in enumerate(self.nodes, INPUT_STATES):
            for edge in edges:
                if edge.source >= state:
                    raise ValueError(
                        f"state {state} needs state {edge.source}, which is not there yet"
                    )
        for state in self.concat:
            if state >= self.states:
                raise ValueError(f"the output needs state {state} of {self.states}")
        # The order is free, but a state that stands twice would be the same channels twice.
        if len(set(self.concat)) < len(self.concat):
            raise ValueError("the output names a state twice")
        return self

    @property
    def states(self) -> int:
        """The number of states: the inputs and one per node."""
        return INPUT_STATES + len(self.nodes)


class Genotype(StrictModel):
    """The two cells that a network is stacked from.

    Args:
        schema_version: version of the document.
        normal: the normal cell, which keeps the size of its input.
        reduce: the reduction cell, which halves it.

    Example:
        >>> GENOTYPES["DARTS_V2"].normal.concat
        (2, 3, 4, 5)
    """

    schema_version: Literal[1]
    normal: Cell
    reduce: Cell

    @property
    def fingerprint(self) -> str:
        """SHA-256 of both cells' canonical JSON.

        The order of edges counts, the schema version does not.
        """
        return digest(self.model_dump(mode="json", include={"normal", "reduce"}))


GENOTYPE_DOCUMENT = Document("genotype", Genotype, GENOTYPE_VERSION)


@checked
def read_genotype(path: Path) -> Genotype:
    """Read a genotype in JSON.

    Args:
        path: a JSON file.

    Returns:
        The genotype.

    Raises:
        SpecError: it cannot be read; with the path of what is wrong.

    Example:
        >>> read_genotype(Path("specs/architectures/genotypes/NASNet.json")) == GENOTYPES["NASNet"]
        True
    """
    return GENOTYPE_DOCUMENT.read(read_text(path, MAX_GENOTYPE_BYTES), str(path))


@checked
def genotype_text(genotype: Genotype) -> str:
    """A genotype as canonical JSON, which is what its file holds.

    Args:
        genotype: the genotype.

    Returns:
        The text of its file.

    Example:
        >>> Path("cells.json").write_text(genotype_text(GENOTYPES["DARTS_V2"]))
    """
    return canonical_json(genotype.model_dump(mode="json")).decode()
