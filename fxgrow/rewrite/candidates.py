"""Candidates: how far each one is switched on (eps), and where its weights go when it is emitted."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fxgrow.coupling import Owners

Values = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Slots:
    """Places of one width's neurons along an axis: ``candidate[i]`` is the index of place i in its eps vector."""

    width: int
    candidate: Tensor


@dataclass(frozen=True)
class Entry:
    """Something that emission adds to the axis of a parameter.

    ``values(split_eps, new_eps)``: for a perturbation (``slots`` None) a tensor of the parameter's old shape; else one
    entry along ``axis`` for each of the places ``slots`` of a width's new neurons.
    """

    parameter: str
    axis: int
    slots: Slots | None
    values: Values


class Candidates(nn.Module):
    """``split_eps`` and ``new_eps`` of all candidates; ``split[width]`` and ``new[width]`` are their slices.

    ``layers``: the widths whose old neurons are blank, being those of candidate layers. ``halves``: a split candidate
    stands for two neurons, theta + eps delta and theta - eps delta; else for the first alone, which takes the place of
    the old one (an *unlocked* neuron, Wu et al. 2020, section 2.4).
    """

    def __init__(
        self,
        split: dict[int, int],
        new: dict[int, int],
        like: Tensor,
        layers: frozenset[int] = frozenset(),
        *,
        halves: bool = True,
    ) -> None:
        super().__init__()
        self.layers, self.halves = layers, halves
        self.split, self.new = _slices(split), _slices(new)
        self.split_eps = nn.Parameter(like.new_zeros(sum(split.values())))
        self.new_eps = nn.Parameter(like.new_zeros(sum(new.values())))

    def split_index(self, owners: Owners) -> Tensor:
        """For each place of an axis the index of its neuron in ``split_eps``, -1 where there is no split candidate."""
        width, neuron = torch.from_numpy(owners.width), torch.from_numpy(owners.neuron)
        index = torch.full_like(width, -1)
        for number, places in self.split.items():
            index = torch.where(width == number, places.start + neuron, index)
        return index


def _slices(counts: dict[int, int]) -> dict[int, slice]:
    found, start = {}, 0
    for width, count in counts.items():
        found[width] = slice(start, start + count)
        start += count
    return found
