"""How cells are stacked: two of them, at one and at two thirds, are reduction cells and double the channels.

Reference: Zoph et al. 2018; Liu, Simonyan, Yang, "DARTS", ICLR 2019, Sec. 3.1. Networks to search in, to share weights
in and to evaluate are all stacked like this.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import nn

from fxgrow.cells.genotype import Cell, Genotype
from fxgrow.cells.operations import FactorizedReduce, ReLUConvBN
from fxgrow.errors import ModelError

STEM_FACTOR = 3
"""The stem gives so many times the channels of a cell's nodes."""


_MEMORY_FORMAT = torch.channels_last
"""On a CPU, depthwise convolutions and their gradients are faster in this layout; ``docs/decisions/0020``."""


class CellKind(StrEnum):
    """The kinds of cells, by their names in a genotype."""

    NORMAL = "normal"
    REDUCE = "reduce"


@dataclass(frozen=True)
class CellPosition:
    """One cell of a stack: its kind, the channels of its two inputs and of its nodes.

    ``after_reduction``: the cell before is a reduction cell, so the older input is twice as large as the newer one.
    """

    kind: CellKind
    older: int
    newer: int
    channels: int
    after_reduction: bool

    def stride(self, source: int) -> int:
        """Of an operation on state ``source``: a reduction cell halves its two inputs."""
        return 2 if self.kind is CellKind.REDUCE and source < 2 else 1


def cell_of(genotype: Genotype, kind: CellKind) -> Cell:
    """The genotype's cell of that kind."""
    return genotype.normal if kind is CellKind.NORMAL else genotype.reduce


def layout(layers: int) -> tuple[CellKind, ...]:
    """The kind of every cell. Raises ``ModelError`` (``model-options``) if there are none."""
    if layers < 1:
        raise ModelError("model-options", f"{layers} cells make no network; ask for 1 or more")
    return tuple(
        CellKind.REDUCE if place in _reductions(layers) else CellKind.NORMAL
        for place in range(layers)
    )


def _reductions(layers: int) -> tuple[int, int]:
    return layers // 3, 2 * layers // 3


def auxiliary_position(layers: int) -> int:
    """The cell, from 0, after which a second classifier helps to train: the second reduction cell."""
    return _reductions(layers)[1]


def cell_positions(
    layers: int, channels: int, normal_states: int, reduce_states: int
) -> tuple[CellPosition, ...]:
    """Every cell of a stack; ``_states``: how many states a cell of that kind gives.

    The nodes have ``channels`` channels until the first reduction, the stem three times as many. Raises ``ModelError``
    (``model-options``) if a number is below 1.
    """
    if channels < 1:
        raise ModelError(
            "model-options", f"cells of {channels} channels compute nothing; ask for 1 or more"
        )
    return tuple(_placed(layout(layers), channels, normal_states, reduce_states))


def _placed(
    kinds: tuple[CellKind, ...], channels: int, normal_states: int, reduce_states: int
) -> Iterator[CellPosition]:
    older = newer = STEM_FACTOR * channels
    before = CellKind.NORMAL
    for kind in kinds:
        channels *= 2 if kind is CellKind.REDUCE else 1
        yield CellPosition(kind, older, newer, channels, before is CellKind.REDUCE)
        states = reduce_states if kind is CellKind.REDUCE else normal_states
        older, newer, before = newer, states * channels, kind


def stem(channels: int, images: int = 3) -> nn.Sequential:
    """From images of ``images`` channels to the first two states: three times ``channels``, the size kept."""
    outputs = STEM_FACTOR * channels
    return nn.Sequential(
        nn.Conv2d(images, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)
    )


def preprocess(place: CellPosition, affine: bool = True) -> tuple[nn.Module, nn.Module]:
    """What brings the older and the newer input of a cell to its channels and to the same size."""
    older: nn.Module
    if place.after_reduction:
        older = FactorizedReduce(place.older, place.channels, affine)
    else:
        older = ReLUConvBN(place.older, place.channels, 1, 1, 0, affine)
    return older, ReLUConvBN(place.newer, place.channels, 1, 1, 0, affine)
