"""The weight-sharing network: every edge of its cells holds every operation, and a choice says what an edge computes.

References: Liu, Simonyan, Yang, "DARTS", ICLR 2019, Eq. 2 (a softmax mixture); Pham et al., "Efficient Neural
Architecture Search", ICML 2018 (one path at a time). As in DARTS, batch norms have no affine parameters and a pooling
is followed by one. How we differ: batch norms always take the statistics of the batch at hand, in evaluation too
(Bender et al., ICML 2018). Running statistics of one cell would be wrong for another, and without them the loss is a
function of weights, choice and batch alone: no pass leaves a trace behind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

import torch
from torch import Tensor, nn

from fxgrow.cells.genotype import INPUT_STATES, Cell, Genotype, Operation
from fxgrow.cells.operations import OPERATIONS
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
from fxgrow.errors import SpecError

POOLINGS: frozenset[Operation] = frozenset({"max_pool_3x3", "avg_pool_3x3"})
_AFFINE = False


class OperationChoice(Protocol):
    """What the edges of one kind of cell compute."""

    def apply(self, edge: int, operations: nn.ModuleDict, state: Tensor) -> Tensor | None:
        """The output of an edge, by its number in the space; None: nothing."""
        ...


CellChoices = Mapping[CellKind, OperationChoice]


@dataclass(frozen=True, eq=False)
class Mixture:
    """Every operation, weighted: Eq. 2 of DARTS. ``weights[edge][i]`` goes with the i-th real operation."""

    weights: Sequence[Sequence[Tensor]]

    @staticmethod
    def of(space: SearchSpace, weights: Tensor) -> "Mixture":
        """From edges x operations of the space. What ``none`` gets goes to zero, which need not be computed."""
        real = [column for column, operation in enumerate(space.operations) if operation != NONE]
        return Mixture(
            [[row[column] for column in real] for row in map(torch.unbind, weights.unbind())]
        )

    def apply(self, edge: int, operations: nn.ModuleDict, state: Tensor) -> Tensor | None:
        """The weighted sum."""
        pairs = zip(self.weights[edge], operations.values(), strict=True)
        total: Tensor = reduce(
            torch.add, (weight * operation(state) for weight, operation in pairs)
        )
        return total


@dataclass(frozen=True)
class SinglePath:
    """The operations of one cell. ``chosen``: those of every edge that has any."""

    chosen: Mapping[int, tuple[Operation, ...]]

    @staticmethod
    def of(space: SearchSpace, cell: Cell) -> "SinglePath":
        """The path of a cell. Raises ``SpecError`` (``bad-value``) if the space has not its nodes or operations."""
        used = {edge.operation for edges in cell.nodes for edge in edges}
        if len(cell.nodes) != space.nodes or not used <= set(space.real):
            raise SpecError(
                "bad-value",
                f"the cell has {len(cell.nodes)} nodes of {', '.join(sorted(used))}, which the search space does not "
                "hold; choose a cell from the space",
            )
        chosen: dict[int, tuple[Operation, ...]] = {}
        for state, edges in zip(space.states, cell.nodes, strict=True):
            for edge in edges:
                number = space.incoming(state)[edge.source]
                chosen[number] = (*chosen.get(number, ()), edge.operation)
        return SinglePath(chosen)

    def apply(self, edge: int, operations: nn.ModuleDict, state: Tensor) -> Tensor | None:
        """The sum of the operations chosen for the edge."""
        chosen = self.chosen.get(edge, ())
        return reduce(torch.add, (operations[name](state) for name in chosen)) if chosen else None


def single_path(space: SearchSpace, genotype: Genotype) -> Mapping[CellKind, SinglePath]:
    """The paths of a genotype. Raises ``SpecError`` (``bad-value``) if it is not of this space."""
    return {kind: SinglePath.of(space, cell_of(genotype, kind)) for kind in CellKind}


class SearchCell(nn.Module):
    """A cell in which every edge holds every operation; ``edges`` are numbered as in the space."""

    def __init__(self, space: SearchSpace, place: CellPosition) -> None:
        super().__init__()
        self.space = space
        self.kind = place.kind
        self.older, self.newer = preprocess(place, _AFFINE)
        sources = (source for state in space.states for source in range(state))
        self.edges = nn.ModuleList(_operations(space, place, source) for source in sources)

    def forward(self, older: Tensor, newer: Tensor, choice: OperationChoice) -> Tensor:
        """From the outputs of the two cells before to batch x (nodes * channels) x height x width."""
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
        return reduce(torch.add, terms)


def _operations(space: SearchSpace, place: CellPosition, source: int) -> nn.ModuleDict:
    return nn.ModuleDict({name: _operation(name, place, source) for name in space.real})


def _operation(name: Operation, place: CellPosition, source: int) -> nn.Module:
    operation = OPERATIONS[name](place.channels, place.stride(source), _AFFINE)
    if name in POOLINGS:
        return nn.Sequential(operation, nn.BatchNorm2d(place.channels, affine=_AFFINE))
    return operation


class Supernet(nn.Module):
    """Cells of both kinds, stacked as the space says, for images of ``image_channels`` channels and ``classes``."""

    def __init__(self, space: SearchSpace, classes: int, image_channels: int) -> None:
        super().__init__()
        self.stem = stem(space.channels, image_channels)
        stack = cell_positions(space.cells, space.channels, space.nodes, space.nodes)
        self.cells = nn.ModuleList(SearchCell(space, place) for place in stack)
        self.classifier = nn.Linear(space.nodes * stack[-1].channels, classes)
        _forget_statistics(self)

    def forward(self, images: Tensor, choices: CellChoices) -> Tensor:
        """Batch x channels x height x width to class scores, batch x classes."""
        older = newer = self.stem(images).contiguous(memory_format=_MEMORY_FORMAT)
        for cell in self.cells:
            older, newer = newer, cell(older, newer, choices[cell.kind])  # type: ignore[index]
        scores: Tensor = self.classifier(newer.mean((2, 3)))
        return scores


class FixedChoiceNetwork(nn.Module):
    """A supernet with one choice: a model of images alone. The weights stay shared."""

    def __init__(self, supernet: Supernet, choices: CellChoices) -> None:
        super().__init__()
        self.supernet = supernet
        self.choices = choices

    def forward(self, images: Tensor) -> Tensor:
        """Class scores, batch x classes."""
        scores: Tensor = self.supernet(images, self.choices)
        return scores


def supernet_for(space: SearchSpace, train: DataSet, valid: DataSet) -> Supernet:
    """A fresh supernet that fits the images; its weights come from torch's own random numbers."""
    classes = 1 + max(int(part.labels.max()) for part in (train, valid))
    return Supernet(space, classes, train.images.shape[1]).to(train.images)


def _forget_statistics(module: nn.Module) -> None:
    """Batch norms without running statistics use those of the batch, in every mode."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.track_running_stats = False
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None
