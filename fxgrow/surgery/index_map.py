"""IndexMap: for one axis, where each new index comes from. Splitting, adding and pruning neurons are all IndexMaps."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FRESH = -1


@dataclass(frozen=True)
class IndexMap:
    """``source[new]``: the old index that the new one copies, or ``FRESH``; ``scale[new]``: its factor;
    ``copy[new]``: 0 for the original, 1, 2, ... for its copies (and for fresh entries the number of the fresh neuron).
    """

    source: Tensor
    scale: Tensor
    copy: Tensor

    @property
    def fresh(self) -> Tensor:
        """Positions of the fresh entries, ascending."""
        return (self.source == FRESH).nonzero().reshape(-1)

    def apply(self, tensor: Tensor, axis: int, scaled: bool = True) -> Tensor:
        """``tensor`` with its ``axis`` mapped; fresh entries are zero. Differentiable, any dtype and device."""
        index = self.source.clamp(min=0).to(tensor.device)
        out = tensor.index_select(axis, index)
        factor = torch.where(self.source == FRESH, 0.0, self.scale if scaled else torch.ones_like(self.scale))
        return out if bool((factor == 1).all()) else out * along(factor.to(out), axis, out.dim())

    def place(self, values: Tensor, axis: int) -> Tensor:
        """Zeros of the mapped size with ``values`` (one per fresh entry along ``axis``) at the fresh entries."""
        shape = list(values.shape)
        shape[axis] = len(self.source)
        return values.new_zeros(shape).index_copy(axis, self.fresh.to(values.device), values)

    @staticmethod
    def identity(size: int) -> "IndexMap":
        return IndexMap(torch.arange(size), torch.ones(size, dtype=torch.float64), torch.zeros(size, dtype=torch.long))

    def then(self, later: "IndexMap") -> "IndexMap":
        """The map that does this one and then ``later``: ``later`` may copy or drop entries, fresh ones included."""
        index = later.source.clamp(min=0)
        new = later.source == FRESH
        source = torch.where(new, FRESH, self.source[index])
        scale = torch.where(new, later.scale, self.scale[index] * later.scale)
        return IndexMap(source, scale, torch.where(new, later.copy, self.copy[index] + later.copy))


def along(vector: Tensor, axis: int, rank: int) -> Tensor:
    """A vector as a tensor of ``rank`` dimensions that varies along ``axis``."""
    shape = [1] * rank
    shape[axis] = -1
    return vector.reshape(shape)


@dataclass(frozen=True)
class Change:
    """What happens to one width: ``times[i]``, how often neuron i occurs afterwards (0 removed, 1 kept, 2 split), and
    ``fresh``, the number of new neurons, which follow the last one."""

    times: Sequence[int]
    fresh: int = 0

    @property
    def size(self) -> int:
        return sum(self.times) + self.fresh


def axis_map(owners: Sequence[tuple[int, int]], changes: dict[int, Change], reads: bool) -> IndexMap:
    """The IndexMap of one axis.

    ``owners[i]`` is (number of the width, neuron in it) of index i. The copies of a neuron follow each maximal run of
    its occurrences (a flattened 7x7 map gives 49 in a row); fresh neurons follow the last neuron. An axis that
    ``reads`` shares the outgoing weight among the copies, so that the function is kept.
    """
    source: list[int] = []
    scale: list[float] = []
    copy: list[int] = []
    for start, stop in runs(owners):
        width, neuron = owners[start]
        change = changes.get(width)
        times = change.times[neuron] if change else 1
        for number in range(times):
            source += range(start, stop)
            scale += [1 / times if reads else 1.0] * (stop - start)
            copy += [number] * (stop - start)
        if change and neuron == len(change.times) - 1:
            for number in range(change.fresh):
                source += [FRESH] * (stop - start)
                scale += [1.0] * (stop - start)
                copy += [number] * (stop - start)
    return IndexMap(torch.tensor(source), torch.tensor(scale, dtype=torch.float64), torch.tensor(copy))


def runs(owners: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(start, stop) of the maximal runs of equal owners."""
    starts = [i for i in range(len(owners)) if i == 0 or owners[i] != owners[i - 1]]
    return list(zip(starts, [*starts[1:], len(owners)], strict=True))
