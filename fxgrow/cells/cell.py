"""A cell as a directed graph, and as a module.

Reference: Liu, Simonyan, Yang, "DARTS", ICLR 2019, Sec. 2.1 and 3.1; drop-path (stochastic depth of
the paths of a cell): Larsson, Maire, Shakhnarovich 2017.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Images, Probability
from fxgrow.cells.genotype import INPUT_STATES, Cell, Edge
from fxgrow.cells.operations import OPERATIONS, add_all
from fxgrow.cells.stack import CellPosition, preprocess
from fxgrow.errors import ModelError

if TYPE_CHECKING:
    import networkx as nx

OperationBuilder = Callable[[Edge, CellPosition], nn.Module]
"""From an edge and the position of its cell to the operation on it."""

_AFFINE = True
"""Batch norm scales and shifts in a network that is trained for its own sake."""


@checked
def dag(cell: Cell) -> "nx.MultiDiGraph[int]":
    """The graph of a cell.

    Args:
        cell: the cell.

    Returns:
        A graph whose nodes are the states, numbered as in the genotype, and the output after them.
        Nodes have a ``kind``: ``input`` (0 and 1), ``node`` or ``output``. Edges have an
        ``operation``, and as key their number among the edges of their node; those to the output
        have the operation None, and as key their place in the concatenation.

    Example:
        >>> dag(GENOTYPES["DARTS_V2"].normal).nodes[2]
        {'kind': 'node'}
    """
    import networkx as nx

    # A multigraph, as two operations may lead from one state to another.
    graph: nx.MultiDiGraph[int] = nx.MultiDiGraph()
    output = cell.states
    for state in range(INPUT_STATES):
        graph.add_node(state, kind="input")
    for state in range(INPUT_STATES, output):
        graph.add_node(state, kind="node")
    graph.add_node(output, kind="output")
    for state, edges in enumerate(cell.nodes, INPUT_STATES):
        for number, edge in enumerate(edges):
            graph.add_edge(edge.source, state, key=number, operation=edge.operation)
    for number, state in enumerate(cell.concat):
        graph.add_edge(state, output, key=number, operation=None)
    return graph


def known_operation(edge: Edge, position: CellPosition) -> nn.Module:
    """The operation that the edge names, with the channels of the cell."""
    return OPERATIONS[edge.operation](position.channels, position.stride(edge.source), _AFFINE)


class CellModule(nn.Module):
    """A cell at its position in a stack.

    The operation on edge j of node i is ``nodes[i][j]``.

    Args:
        cell: the cell.
        position: its position, which decides channels and strides.
        choose: makes the operation of an edge; by default the one that the edge names.
        drop_path: probability with which each operation but an identity is left out in training,
            image by image.

    Shapes:
        older: [batch, position.older, 2 * height, 2 * width] after a reduction cell, else as newer
        newer: [batch, position.newer, height, width]
        output: [batch, outputs, height, width], half the height and width in a reduction cell

    Raises:
        ModelError: ``drop_path`` is not from 0 to below 1 (``model-options``).

    Example:
        >>> position = cell_positions(layers=5, channels=4, normal_states=4, reduce_states=4)[0]
        >>> module = CellModule(GENOTYPES["DARTS_V2"].normal, position)
        >>> module(torch.randn(2, 12, 8, 8), torch.randn(2, 12, 8, 8)).shape
        torch.Size([2, 16, 8, 8])
    """

    @checked
    def __init__(
        self,
        cell: Cell,
        position: CellPosition,
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
        self.outputs = len(cell.concat) * position.channels
        self.older, self.newer = preprocess(position)
        self.nodes = nn.ModuleList()
        for edges in cell.nodes:
            self.nodes.append(NodeModule(edges, position, choose, drop_path))

    def forward(self, older: Tensor, newer: Tensor) -> Tensor:
        """From the outputs of the two cells before to [batch, outputs, height, width]."""
        states = [self.older(older), self.newer(newer)]
        for node in self.nodes:
            states.append(node(states))
        # [batch, channels, height, width] each, side by side along the channels.
        return torch.cat([states[state] for state in self.concat], 1)


class NodeModule(nn.ModuleList):
    """The operations on the edges of one node, and their sum."""

    def __init__(
        self,
        edges: tuple[Edge, ...],
        position: CellPosition,
        choose: OperationBuilder,
        drop_path: float,
    ) -> None:
        super().__init__(choose(edge, position) for edge in edges)
        self.sources = tuple(edge.source for edge in edges)
        self.drop_path = drop_path

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """From the earlier states to the next one."""
        # All operations first, then their sum: the order of the nodes in a traced graph.
        results = []
        for operation, source in zip(self, self.sources, strict=True):
            results.append(self._dropped(operation, operation(states[source])))
        return add_all(results)

    def _dropped(self, operation: nn.Module, result: Tensor) -> Tensor:
        """The result of an operation, after drop-path where it applies."""
        # Identities are never dropped, as in the authors' code of DARTS.
        if not self.training or not self.drop_path or isinstance(operation, nn.Identity):
            return result
        return drop_path(result, self.drop_path)


@checked
def drop_path(images: Images, probability: Probability) -> Tensor:
    """Stochastic depth: zero each image with the given probability and rescale the others.

    The scale is 1 / (1 - probability), so the mean over many draws is kept. Torch's own generator
    draws.

    Args:
        images: a batch; not changed.
        probability: with which an image becomes zero, from 0 to below 1.

    Shapes:
        images and returned tensor: [batch, channels, height, width]

    Returns:
        The batch with some of its images zero.

    Example:
        >>> drop_path(torch.ones(4, 1, 1, 1), 0.5).flatten()
        tensor([2., 0., 0., 2.])
    """
    keep = 1 - probability
    # One draw per image: [batch, 1, 1, 1] is broadcast over channels and pixels.
    mask = images.new_empty((images.shape[0], 1, 1, 1)).bernoulli_(keep)
    return images * mask / keep
