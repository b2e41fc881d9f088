"""A cell as a directed graph, and as a module.

Reference: Liu, Simonyan, Yang, "DARTS", ICLR 2019, Sec. 2.1 and 3.1; drop-path: Larsson, Maire, Shakhnarovich 2017.
"""

from collections.abc import Callable, Sequence
from functools import reduce

import networkx as nx
import torch
from torch import Tensor, nn

from fxgrow.cells.genotype import INPUT_STATES, Cell, Edge
from fxgrow.cells.operations import OPERATIONS
from fxgrow.cells.stack import CellPosition, preprocess
from fxgrow.errors import ModelError

OperationBuilder = Callable[[Edge, CellPosition], nn.Module]
"""From an edge and the place of its cell to the operation on it."""

_AFFINE = True
"""Batch norm scales and shifts in a network that is trained for its own sake."""


def dag(cell: Cell) -> "nx.MultiDiGraph[int]":
    """The graph of a cell: its states, numbered as in the genotype, and the output after them.

    Nodes have a ``kind``: ``input`` (0 and 1), ``node`` or ``output``. Edges have an ``operation``, and as key their
    place among the edges of their node; those to the output have None, and as key their place in the concatenation.
    """
    graph: nx.MultiDiGraph[int] = nx.MultiDiGraph()
    output = cell.states
    for state in range(output + 1):
        graph.add_node(
            state, kind="input" if state < INPUT_STATES else "node" if state < output else "output"
        )
    for state, edges in enumerate(cell.nodes, INPUT_STATES):
        for number, edge in enumerate(edges):
            graph.add_edge(edge.source, state, key=number, operation=edge.operation)
    for number, state in enumerate(cell.concat):
        graph.add_edge(state, output, key=number, operation=None)
    return graph


def known_operation(edge: Edge, place: CellPosition) -> nn.Module:
    """The operation that the edge names, with the channels of the cell."""
    return OPERATIONS[edge.operation](place.channels, place.stride(edge.source), _AFFINE)


class CellModule(nn.Module):
    """The cell ``cell`` at ``place`` of a stack.

    ``choose`` makes the operation of an edge; that on edge j of node i is ``nodes[i][j]``. In training each but an
    identity is left out with probability ``drop_path``, image by image. Raises ``ModelError`` (``model-options``)
    unless it is from 0 to below 1.
    """

    def __init__(
        self,
        cell: Cell,
        place: CellPosition,
        *,
        choose: OperationBuilder = known_operation,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= drop_path < 1:
            raise ModelError(
                "model-options",
                f"drop-path of probability {drop_path} cannot be; give 0 to below 1",
            )
        self.concat = cell.concat
        self.outputs = len(cell.concat) * place.channels
        self.older, self.newer = preprocess(place)
        self.nodes = nn.ModuleList(
            NodeModule(edges, place, choose, drop_path) for edges in cell.nodes
        )

    def forward(self, older: Tensor, newer: Tensor) -> Tensor:
        """From the outputs of the two cells before to batch x ``outputs`` x height x width."""
        states = [self.older(older), self.newer(newer)]
        for node in self.nodes:
            states.append(node(states))
        return torch.cat([states[state] for state in self.concat], 1)


class NodeModule(nn.ModuleList):
    """The operations on the edges of one node, and their sum."""

    def __init__(
        self,
        edges: tuple[Edge, ...],
        place: CellPosition,
        choose: OperationBuilder,
        drop_path: float,
    ) -> None:
        super().__init__(choose(edge, place) for edge in edges)
        self.sources = tuple(edge.source for edge in edges)
        self.drop_path = drop_path

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """From the states before to the next one."""
        edges = zip(self, self.sources, strict=True)
        return reduce(
            torch.add, [self._kept(operation, states[source]) for operation, source in edges]
        )

    def _kept(self, operation: nn.Module, state: Tensor) -> Tensor:
        result: Tensor = operation(state)
        if not self.training or not self.drop_path or isinstance(operation, nn.Identity):
            return result
        return drop_path(result, self.drop_path)


def drop_path(images: Tensor, probability: float) -> Tensor:
    """Each image of a batch becomes 0 with ``probability``, or grows so that the mean is kept.

    Torch's own random numbers decide.
    """
    keep = 1 - probability
    return images * images.new_empty((images.shape[0], 1, 1, 1)).bernoulli_(keep) / keep
