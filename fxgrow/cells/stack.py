"""How cells are stacked: those at one and at two thirds reduce, and double the channels.

Reference: Zoph et al. 2018; Liu, Simonyan, Yang, "DARTS", ICLR 2019, Sec. 3.1. Networks to search
in, to share weights in and to evaluate are all stacked like this.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import torch
from torch import nn

from fxgrow.argument_checks import checked, checked_class, shown
from fxgrow.argument_types import Within
from fxgrow.cells.genotype import INPUT_STATES, STATES, Cell, Genotype
from fxgrow.cells.operations import FactorizedReduce, ReLUConvBN
from fxgrow.documents import limits
from fxgrow.errors import ArgumentError, ModelError

STEM_FACTOR = 3
"""The output of the stem has so many times the channels of a cell's nodes."""


_MEMORY_FORMAT = torch.channels_last
"""Depthwise convolutions are faster in this layout on a CPU; ``docs/decisions/0020``."""


class CellKind(StrEnum):
    """The two kinds of cells, by their names in a genotype.

    Example:
        >>> CellKind("reduce")
        <CellKind.REDUCE: 'reduce'>
    """

    NORMAL = "normal"
    REDUCE = "reduce"

    @classmethod
    def _missing_(cls, value: object) -> "CellKind":
        known = " or ".join(repr(kind.value) for kind in cls)
        raise ArgumentError("bad-argument", f"{shown(value)} is no kind of cell; say {known}")


@checked_class
@dataclass(frozen=True)
class CellPosition:
    """The position of a cell in a stack, as far as its sizes depend on it.

    Args:
        kind: the kind of the cell.
        older: channels of its first input, the output of the cell before the previous one.
        newer: channels of its second input, the output of the previous cell.
        channels: channels of each of its nodes.
        after_reduction: the previous cell is a reduction cell, so the older input is twice as large
            as the newer one.

    Example:
        >>> cell_positions(layers=3, channels=4, normal_states=4, reduce_states=4)[1].channels
        8
    """

    kind: CellKind
    older: int
    newer: int
    channels: int
    after_reduction: bool

    @checked
    def stride(self, source: int) -> int:
        """Stride of an operation on state ``source``: a reduction cell halves its two inputs."""
        halves = self.kind is CellKind.REDUCE and source < INPUT_STATES
        return 2 if halves else 1


def cell_of(genotype: Genotype, kind: CellKind) -> Cell:
    """The genotype's cell of that kind."""
    return genotype.normal if kind is CellKind.NORMAL else genotype.reduce


@checked
def layout(layers: int) -> tuple[CellKind, ...]:
    """The kind of every cell of a stack.

    Args:
        layers: number of cells.

    Returns:
        The kinds, from the input of the network to its output.

    Raises:
        ModelError: there are no cells (``model-options``).

    Example:
        >>> [kind.value for kind in layout(3)]
        ['normal', 'reduce', 'reduce']
    """
    if not 1 <= layers <= limits.OPTION_COUNT:
        raise ModelError(
            "model-options",
            f"{layers} cells make no network; ask for 1 to {limits.OPTION_COUNT}",
        )
    kinds = [CellKind.NORMAL] * layers
    for number in _reductions(layers):
        kinds[number] = CellKind.REDUCE
    return tuple(kinds)


def _reductions(layers: int) -> tuple[int, int]:
    """The two cells that reduce; the same one twice in very short stacks."""
    return layers // 3, 2 * layers // 3


def auxiliary_position(layers: int) -> int:
    """The cell, from 0, after which an auxiliary classifier sits: the second reduction cell."""
    return _reductions(layers)[1]


States = Annotated[int, Within(1, STATES)]
"""How many states a cell concatenates."""


@checked
def cell_positions(
    layers: int, channels: int, normal_states: States, reduce_states: States
) -> tuple[CellPosition, ...]:
    """The position of every cell of a stack.

    Args:
        layers: number of cells.
        channels: channels of the nodes before the first reduction; the stem has three times that.
        normal_states: number of states that a normal cell concatenates.
        reduce_states: number of states that a reduction cell concatenates.

    Returns:
        The positions, from the input of the network to its output.

    Raises:
        ModelError: there are no cells or no channels (``model-options``).

    Example:
        >>> [position.newer for position in cell_positions(3, 4, 4, 4)]
        [12, 16, 32]
    """
    if not 1 <= channels <= limits.OPTION_LENGTH:
        raise ModelError(
            "model-options",
            f"cells of {channels} channels cannot be computed; ask for 1 to {limits.OPTION_LENGTH}",
        )
    positions = []
    older = newer = STEM_FACTOR * channels
    previous = CellKind.NORMAL
    for kind in layout(layers):
        if kind is CellKind.REDUCE:
            channels *= 2  # half the height and width, twice the channels
        after_reduction = previous is CellKind.REDUCE
        positions.append(CellPosition(kind, older, newer, channels, after_reduction))
        states = reduce_states if kind is CellKind.REDUCE else normal_states
        older, newer, previous = newer, states * channels, kind
    return tuple(positions)


def stem(channels: int, images: int = 3) -> nn.Sequential:
    """From images of ``images`` channels to the first two states: three times ``channels``."""
    outputs = STEM_FACTOR * channels
    return nn.Sequential(
        nn.Conv2d(images, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)
    )


def preprocess(position: CellPosition, affine: bool = True) -> tuple[nn.Module, nn.Module]:
    """The modules that bring the older and the newer input of a cell to its channels.

    The older one is halved too where the previous cell has halved the newer one.
    """
    older: nn.Module
    if position.after_reduction:
        older = FactorizedReduce(position.older, position.channels, affine)
    else:
        older = ReLUConvBN(position.older, position.channels, 1, 1, 0, affine)
    return older, ReLUConvBN(position.newer, position.channels, 1, 1, 0, affine)
