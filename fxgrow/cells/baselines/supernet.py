"""The weight-sharing network: every edge holds every operation, of which a choice is computed.

References: Liu, Simonyan, Yang, "DARTS", ICLR 2019, Eq. 2 (a softmax mixture); Pham et al.,
"Efficient Neural Architecture Search", ICML 2018 (one path at a time). As in DARTS, batch norms
have no affine parameters and a pooling is followed by one. How we differ: batch norms always take
the statistics of the batch at hand, in evaluation too (Bender et al., ICML 2018). Running
statistics of one cell would be wrong for another, and without them the loss is a function of
weights, choice and batch alone: no pass changes the state of the network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from fxgrow.cells.genotype import INPUT_STATES, Cell, Genotype, Operation
from fxgrow.cells.operations import OPERATIONS, add_all
from fxgrow.cells.space import NONE, SearchSpace
from fxgrow.cells.stack import (
    _MEMORY_FORMAT,
    CellKind,
    CellPosition,
    cell_of,
    cell_positions,
    preprocess,
    stem,
)
from fxgrow.data import DataSet
from fxgrow.documents import limits
from fxgrow.errors import SpecError
from fxgrow.memory import bounded_model

POOLINGS: frozenset[Operation] = frozenset({"max_pool_3x3", "avg_pool_3x3"})
_AFFINE = False
"""Batch norms neither scale nor shift: that would undo the weights of a mixture."""


class OperationChoice(Protocol):
    """What the edges of one kind of cell compute."""

    def apply(self, edge: int, operations: nn.ModuleDict, state: Tensor) -> Tensor | None:
        """The output of an edge, by its number in the space; None: nothing."""
        ...


CellChoices = Mapping[CellKind, OperationChoice]


@dataclass(frozen=True, eq=False)
class Mixture:
    """A weighted sum of all operations on every edge: Eq. 2 of DARTS.

    ``weights[edge][i]`` is the weight of the i-th real operation, a scalar.
    """

    weights: Sequence[Sequence[Tensor]]

    @staticmethod
    def of(space: SearchSpace, weights: Tensor) -> "Mixture":
        """From weights [edges, operations of the space].

        The share of ``none`` multiplies zero, which need not be computed: its column is left out.
        """
        real_columns = real_operation_columns(space)
        rows = []
        for row in weights.unbind():
            scalars = row.unbind()
            rows.append([scalars[column] for column in real_columns])
        return Mixture(rows)

    def apply(self, edge: int, operations: nn.ModuleDict, state: Tensor) -> Tensor | None:
        """The weighted sum of all operations of the edge."""
        total: Tensor | None = None
        for weight, operation in zip(self.weights[edge], operations.values(), strict=True):
            term = weight * operation(state)
            total = term if total is None else torch.add(total, term)
        return total


def real_operation_columns(space: SearchSpace) -> list[int]:
    """The columns of the operations other than ``none`` in a matrix [edges, operations]."""
    return [column for column, name in enumerate(space.operations) if name != NONE]


@dataclass(frozen=True)
class SinglePath:
    """The operations of one cell. ``chosen``: by the number of each edge that has any."""

    chosen: Mapping[int, tuple[Operation, ...]]

    @staticmethod
    def of(space: SearchSpace, cell: Cell) -> "SinglePath":
        """The path of a cell.

        Raises ``SpecError`` (``bad-value``) if its nodes or operations are not of the space.
        """
        used: set[Operation] = set()
        for edges in cell.nodes:
            used.update(edge.operation for edge in edges)
        if len(cell.nodes) != space.nodes or not used <= set(space.real):
            raise SpecError(
                "bad-value",
                f"the cell has {len(cell.nodes)} nodes of {', '.join(sorted(used))}, which the "
                "search space does not hold; choose a cell from the space",
            )
        chosen: dict[int, tuple[Operation, ...]] = {}
        for state, edges in zip(space.states, cell.nodes, strict=True):
            for edge in edges:
                number = space.incoming(state)[edge.source]
                chosen[number] = (*chosen.get(number, ()), edge.operation)
        return SinglePath(chosen)

    def apply(self, edge: int, operations: nn.ModuleDict, state: Tensor) -> Tensor | None:
        """The sum of the operations chosen for the edge; None if there are none."""
        total: Tensor | None = None
        for name in self.chosen.get(edge, ()):
            term: Tensor = operations[name](state)
            total = term if total is None else torch.add(total, term)
        return total


def single_path(space: SearchSpace, genotype: Genotype) -> Mapping[CellKind, SinglePath]:
    """The paths of both cells of a genotype.

    Args:
        space: the search space.
        genotype: a genotype of it.

    Returns:
        The choice of every edge, by kind of cell.

    Raises:
        SpecError: the genotype is not of this space (``bad-value``).
    """
    return {kind: SinglePath.of(space, cell_of(genotype, kind)) for kind in CellKind}


class SearchCell(nn.Module):
    """A cell in which every edge holds every operation; ``edges`` are numbered as in the space."""

    def __init__(self, space: SearchSpace, position: CellPosition) -> None:
        super().__init__()
        self.space = space
        self.kind = position.kind
        self.older, self.newer = preprocess(position, _AFFINE)
        self.edges = nn.ModuleList()
        for state in space.states:
            for source in range(state):
                self.edges.append(_operations(space, position, source))

    def forward(self, older: Tensor, newer: Tensor, choice: OperationChoice) -> Tensor:
        """From the outputs of the two cells before to [batch, nodes * channels, height, width]."""
        # States 0 and 1 are the inputs; each node appends the next one.
        states = [self.older(older), self.newer(newer)]
        for state in self.space.states:
            states.append(self._node(states, self.space.incoming(state), choice))
        return torch.cat(states[INPUT_STATES:], 1)

    def _node(self, states: Sequence[Tensor], incoming: range, choice: OperationChoice) -> Tensor:
        terms: list[Tensor] = []
        for edge, state in zip(incoming, states, strict=True):
            term = choice.apply(edge, self.edges[edge], state)  # type: ignore[arg-type]
            if term is not None:
                terms.append(term)
        return add_all(terms)


def _operations(space: SearchSpace, position: CellPosition, source: int) -> nn.ModuleDict:
    return nn.ModuleDict({name: _operation(name, position, source) for name in space.real})


def _operation(name: Operation, position: CellPosition, source: int) -> nn.Module:
    operation = OPERATIONS[name](position.channels, position.stride(source), _AFFINE)
    if name in POOLINGS:
        # The output of a pooling gets the scale of the convolutions, which end in a batch norm.
        return nn.Sequential(operation, nn.BatchNorm2d(position.channels, affine=_AFFINE))
    return operation


class Supernet(nn.Module):
    """Cells of both kinds, stacked as the space defines.

    Args:
        space: the search space.
        classes: number of classes.
        image_channels: channels of the images.

    Shapes:
        images: [batch, image_channels, height, width]
        output: [batch, classes]
    """

    def __init__(self, space: SearchSpace, classes: int, image_channels: int) -> None:
        super().__init__()
        self.stem = stem(space.channels, image_channels)
        positions = cell_positions(space.cells, space.channels, space.nodes, space.nodes)
        self.cells = nn.ModuleList(SearchCell(space, position) for position in positions)
        self.classifier = nn.Linear(space.nodes * positions[-1].channels, classes)
        _forget_statistics(self)

    def forward(self, images: Tensor, choices: CellChoices) -> Tensor:
        """From images to class scores, with a choice for each kind of cell."""
        older = newer = self.stem(images).contiguous(memory_format=_MEMORY_FORMAT)
        for cell in self.cells:
            older, newer = newer, cell(older, newer, choices[cell.kind])  # type: ignore[index]
        scores: Tensor = self.classifier(newer.mean((2, 3)))  # the mean over all pixels
        return scores


class FixedChoiceNetwork(nn.Module):
    """A supernet with one choice: a model of images alone. The weights stay shared."""

    def __init__(self, supernet: Supernet, choices: CellChoices) -> None:
        super().__init__()
        self.supernet = supernet
        self.choices = choices

    def forward(self, images: Tensor) -> Tensor:
        """From images to class scores, [batch, classes]."""
        scores: Tensor = self.supernet(images, self.choices)
        return scores


@bounded_model("the network with all operations", limits.ENTRIES)
def supernet_for(space: SearchSpace, train: DataSet, valid: DataSet) -> Supernet:
    """A new supernet that fits the images, with weights drawn from torch's own generator."""
    last_class = max(int(train.labels.max()), int(valid.labels.max()))
    return Supernet(space, 1 + last_class, train.images.shape[1]).to(train.images)


def _forget_statistics(module: nn.Module) -> None:
    """Without running statistics, batch norms use those of the batch in every mode."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.track_running_stats = False
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None
