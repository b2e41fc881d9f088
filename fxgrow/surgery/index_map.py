"""IndexMap: for one axis, where each new index comes from.

Splitting, adding and pruning neurons are all IndexMaps.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IntArray = npt.NDArray[np.int64]

NEW_INDEX = -1
"""The source of an index that copies no old one."""


@dataclass(frozen=True)
class IndexMap:
    """Where each new index of an axis comes from.

    Args:
        source: ``source[new]`` is the old index that the new one copies, or ``NEW_INDEX``.
        scale: ``scale[new]`` is its factor.
        copy: ``copy[new]`` is 0 for the original, 1, 2, ... for its copies; for new entries it is
            the number of the new neuron.
    """

    source: Tensor
    scale: Tensor
    copy: Tensor

    @property
    def new(self) -> Tensor:
        """Positions of the new entries, ascending."""
        return (self.source == NEW_INDEX).nonzero().reshape(-1)

    def apply(self, tensor: Tensor, axis: int, scaled: bool = True) -> Tensor:
        """Map one axis of a tensor; new entries are zero.

        Args:
            tensor: of any dtype, on any device. A tensor on the meta device changes its shape only.
            axis: the axis.
            scaled: multiply by ``scale``.

        Returns:
            The mapped tensor. Gradients go through to ``tensor``.
        """
        if tensor.is_meta:
            shape = list(tensor.shape)
            shape[axis] = len(self.source)
            return tensor.new_empty(shape)
        # New entries (index -1) copy entry 0 and are multiplied by zero.
        index = self.source.clamp(min=0).to(tensor.device)
        out = tensor.index_select(axis, index)
        scale = self.scale if scaled else torch.ones_like(self.scale)
        factor = torch.where(self.source == NEW_INDEX, 0.0, scale)
        if bool((factor == 1).all()):
            return out
        return out * reshape_along(factor.to(out), axis, out.dim())

    def place(self, values: Tensor, axis: int) -> Tensor:
        """Zeros of the mapped size with values at the new entries.

        Args:
            values: one per new entry along ``axis``.
            axis: the axis.

        Returns:
            A tensor that has as many entries along ``axis`` as the map.
        """
        shape = list(values.shape)
        shape[axis] = len(self.source)
        return values.new_zeros(shape).index_copy(axis, self.new.to(values.device), values)

    @staticmethod
    def identity(size: int) -> "IndexMap":
        """The map that changes nothing."""
        return IndexMap(
            torch.arange(size),
            torch.ones(size, dtype=torch.float64),
            torch.zeros(size, dtype=torch.long),
        )

    def then(self, later: "IndexMap") -> "IndexMap":
        """The map that does this one and then another.

        Args:
            later: it may copy or drop entries, new ones included.

        Returns:
            One map with ``then(later).apply(x) == later.apply(apply(x))``.
        """
        index = later.source.clamp(min=0)
        is_new = later.source == NEW_INDEX
        source = torch.where(is_new, NEW_INDEX, self.source[index])
        scale = torch.where(is_new, later.scale, self.scale[index] * later.scale)
        copy = torch.where(is_new, later.copy, self.copy[index] + later.copy)
        return IndexMap(source, scale, copy)


def reshape_along(vector: Tensor, axis: int, rank: int) -> Tensor:
    """A vector as a tensor that varies along one axis, to be broadcast.

    Args:
        vector: ``[n]``.
        axis: the axis to vary along.
        rank: how many dimensions to have.

    Returns:
        ``[n, 1, ..., 1]``, with a 1 for each axis that follows; those before it need none.
    """
    following = rank - 1 - axis % rank
    return vector.reshape(-1, *[1] * following) if following else vector


@dataclass(frozen=True)
class Change:
    """What happens to one width.

    Args:
        times: ``times[i]`` is how often neuron i occurs afterwards (0 removed, 1 kept, 2 split).
        new: the number of new neurons, which follow the last one.
    """

    times: Sequence[int]
    new: int = 0

    @property
    def size(self) -> int:
        """The number of neurons afterwards."""
        return sum(self.times) + self.new


@dataclass(frozen=True)
class Placement:
    """Where everything is on a grown axis.

    Args:
        element: ``element[new]`` is the old index that is copied, or after which the new entry is
            placed.
        block: ``block[new]`` is 0 for the original, 1, 2, ... for copies; ``times[new]``,
            ``times[new] + 1``, ... for new entries.
        times: how often the old index occurs.
    """

    element: IntArray
    block: IntArray
    times: IntArray

    def index_map(self, reads: bool) -> IndexMap:
        """The IndexMap.

        Args:
            reads: the axis reads neurons; the outgoing weight is shared among copies, so that the
                function is kept.
        """
        is_copy = self.block < self.times
        source = np.where(is_copy, self.element, NEW_INDEX)
        scale = np.where(is_copy & reads, 1 / np.maximum(self.times, 1), 1.0)
        copy = np.where(is_copy, self.block, self.block - self.times)
        return IndexMap(torch.from_numpy(source), torch.from_numpy(scale), torch.from_numpy(copy))


def placement(
    width: IntArray,
    neuron: IntArray,
    changes: Mapping[int, Change],
    singly: Collection[int] = frozenset(),
) -> Placement:
    """Where everything goes on one axis.

    The copies of a neuron follow each maximal run of its occurrences (a flattened 7x7 map gives 49
    in a row); new neurons follow the last neuron.

    Args:
        width: the number of the width that owns each index of the axis.
        neuron: the neuron in that width.
        changes: what happens to each width, by its number.
        singly: widths in which copies follow each single occurrence instead.

    Returns:
        The placement.
    """
    starts = run_starts(width, neuron, singly)
    lengths = np.diff(starts, append=len(width))
    run_width, run_neuron = width[starts], neuron[starts]
    times = np.ones_like(starts)
    new = np.zeros_like(starts)
    for number, change in changes.items():
        in_width = run_width == number
        times[in_width] = np.asarray(change.times, np.int64)[run_neuron[in_width]]
        is_last_neuron = run_neuron == len(change.times) - 1
        new[in_width & is_last_neuron] = change.new
    # Every run becomes `times` copies of itself and `new` blocks of new entries, ...
    run_of_block, block = _expand(times + new)
    # ... and every block has as many entries as the run.
    block_of_entry, offset = _expand(lengths[run_of_block])
    run = run_of_block[block_of_entry]
    return Placement(starts[run] + offset, block[block_of_entry], times[run])


def axis_map(
    width: IntArray, neuron: IntArray, changes: Mapping[int, Change], reads: bool
) -> IndexMap:
    """The IndexMap of one axis.

    Args:
        width: see ``placement``.
        neuron: see ``placement``.
        changes: see ``placement``.
        reads: see ``Placement.index_map``.

    Returns:
        The map.
    """
    return placement(width, neuron, changes).index_map(reads)


def run_starts(
    width: IntArray, neuron: IntArray, singly: Collection[int] = frozenset()
) -> IntArray:
    """Where the maximal runs of equal owners start on an axis.

    Args:
        width: the number of the width that owns each index.
        neuron: the neuron in that width.
        singly: widths in which every index is a run of its own.

    Returns:
        The first index of each run, ascending.
    """
    # No width is -2, so index 0 always starts a run.
    is_start = (np.diff(width, prepend=-2) != 0) | (np.diff(neuron, prepend=-2) != 0)
    if singly:
        is_start |= np.isin(width, list(singly))
    return np.flatnonzero(is_start)


def _expand(counts: IntArray) -> tuple[IntArray, IntArray]:
    """For ``counts[i]`` repetitions of every i: which i, and the number of the repetition.

    ``[2, 3]`` gives ``[0, 0, 1, 1, 1]`` and ``[0, 1, 0, 1, 2]``.
    """
    which = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts  # where the repetitions of each i start
    return which, np.arange(len(which)) - np.repeat(first, counts)
