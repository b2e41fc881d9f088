"""IndexMap: for one axis, where each new index comes from. Splitting, adding and pruning neurons are all IndexMaps."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IntArray = npt.NDArray[np.int64]

NEW_INDEX = -1


@dataclass(frozen=True)
class IndexMap:
    """Where each new index comes from.

    ``source[new]``: the old index that the new one copies, or ``FRESH``; ``scale[new]``: its factor; ``copy[new]``:
    0 for the original, 1, 2, ... for its copies (and for fresh entries the number of the fresh neuron).
    """

    source: Tensor
    scale: Tensor
    copy: Tensor

    @property
    def new(self) -> Tensor:
        """Positions of the fresh entries, ascending."""
        return (self.source == NEW_INDEX).nonzero().reshape(-1)

    def apply(self, tensor: Tensor, axis: int, scaled: bool = True) -> Tensor:
        """``tensor`` with its ``axis`` mapped; fresh entries are zero. Differentiable, any dtype and device."""
        if tensor.is_meta:
            shape = list(tensor.shape)
            shape[axis] = len(self.source)
            return tensor.new_empty(shape)
        index = self.source.clamp(min=0).to(tensor.device)
        out = tensor.index_select(axis, index)
        factor = torch.where(
            self.source == NEW_INDEX, 0.0, self.scale if scaled else torch.ones_like(self.scale)
        )
        return (
            out
            if bool((factor == 1).all())
            else out * reshape_along(factor.to(out), axis, out.dim())
        )

    def place(self, values: Tensor, axis: int) -> Tensor:
        """Zeros of the mapped size with ``values`` (one per fresh entry along ``axis``) at the fresh entries."""
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
        """The map that does this one and then ``later``: ``later`` may copy or drop entries, fresh ones included."""
        index = later.source.clamp(min=0)
        new = later.source == NEW_INDEX
        source = torch.where(new, NEW_INDEX, self.source[index])
        scale = torch.where(new, later.scale, self.scale[index] * later.scale)
        return IndexMap(source, scale, torch.where(new, later.copy, self.copy[index] + later.copy))


def reshape_along(vector: Tensor, axis: int, rank: int) -> Tensor:
    """A vector as a tensor of ``rank`` dimensions that varies along ``axis``."""
    shape = [1] * rank
    shape[axis] = -1
    return vector.reshape(shape)


@dataclass(frozen=True)
class Change:
    """What happens to one width.

    ``times[i]``: how often neuron i occurs afterwards (0 removed, 1 kept, 2 split); ``fresh``: the number of new
    neurons, which follow the last one.
    """

    times: Sequence[int]
    new: int = 0

    @property
    def size(self) -> int:
        """The new number of neurons."""
        return sum(self.times) + self.new


@dataclass(frozen=True)
class Placement:
    """What stands where on a grown axis: a copy of old index ``element[new]``, or a fresh entry placed after it.

    ``block[new]``: 0 for the original, 1, 2, ... for copies, ``times[new]``, ``times[new]`` + 1, ... for fresh ones.
    """

    element: IntArray
    block: IntArray
    times: IntArray

    def index_map(self, reads: bool) -> IndexMap:
        """The IndexMap; an axis that ``reads`` shares the outgoing weight among copies, so the function is kept."""
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
    """Where everything goes on one axis whose index i is neuron ``neuron[i]`` of width number ``width[i]``.

    The copies of a neuron follow each maximal run of its occurrences (a flattened 7x7 map gives 49 in a row), or, in
    the widths ``singly``, each single occurrence; fresh neurons follow the last neuron.
    """
    starts = run_starts(width, neuron, singly)
    lengths = np.diff(starts, append=len(width))
    times, new = np.ones_like(starts), np.zeros_like(starts)
    for number, change in changes.items():
        mine = width[starts] == number
        times[mine] = np.asarray(change.times, np.int64)[neuron[starts][mine]]
        new[mine & (neuron[starts] == len(change.times) - 1)] = change.new
    run, block = _expand(
        times + new
    )  # every run becomes `times` copies of itself and `fresh` fresh ones
    block_of, offset = _expand(lengths[run])
    run, block = run[block_of], block[block_of]
    return Placement(starts[run] + offset, block, times[run])


def axis_map(
    width: IntArray, neuron: IntArray, changes: Mapping[int, Change], reads: bool
) -> IndexMap:
    """The IndexMap of one axis (see ``placement``)."""
    return placement(width, neuron, changes).index_map(reads)


def run_starts(
    width: IntArray, neuron: IntArray, singly: Collection[int] = frozenset()
) -> IntArray:
    """Where the maximal runs of equal owners start; in the widths ``singly`` every index is a run."""
    new = (np.diff(width, prepend=-2) != 0) | (np.diff(neuron, prepend=-2) != 0)
    if singly:
        new |= np.isin(width, list(singly))
    return np.flatnonzero(new)


def _expand(counts: IntArray) -> tuple[IntArray, IntArray]:
    """For ``counts[i]`` repetitions of every i: which i, and the number of the repetition."""
    which = np.repeat(np.arange(len(counts)), counts)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
