"""Candidates: how far each is switched on (eps), and the indices that they take."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fxgrow.coupling import Owners


@dataclass(frozen=True)
class Slots:
    """Indices along an axis that the new neurons of one width take.

    Args:
        width: the number of the width.
        candidate: ``candidate[i]`` is the index in ``new_eps`` of the neuron that index i
            belongs to. A neuron that takes several indices (a flattened map) is repeated.
        by_writers: eps multiply what writes these neurons, and not what reads them (widths under
            norms).
    """

    width: int
    candidate: Tensor
    by_writers: bool = False


class Candidates(nn.Module):
    """The eps of all candidates: ``split_eps`` and ``new_eps``, zero at first.

    ``split[width]`` and ``new[width]`` are the slices of a width in these vectors.

    Args:
        split: how many neurons of a width can be split, by its number.
        new: how many new neurons a width can get, by its number.
        like: a tensor of the dtype and device of the eps.
        layers: the widths whose old neurons are blank, because they are those of candidate layers.
        under_norms: the widths that norms run over. Since a norm must see nothing of a new neuron
            at eps = 0, there eps multiplies what writes it.
        halves: a split candidate stands for two neurons, theta + eps delta and theta - eps delta.
            Without halves it stands for the first alone, which takes the place of the old one (an
            *unlocked* neuron, Wu et al. 2020, section 2.4).

    The buffer ``is_selected`` marks the new neurons that were selected, once any are: a norm counts
    them even where their eps is 0.
    """

    is_selected: Tensor

    def __init__(
        self,
        split: dict[int, int],
        new: dict[int, int],
        like: Tensor,
        layers: frozenset[int] = frozenset(),
        under_norms: frozenset[int] = frozenset(),
        *,
        halves: bool = True,
    ) -> None:
        super().__init__()
        self.under_norms = under_norms
        self.layers = layers
        self.halves = halves
        self.split = _slices(split)
        self.new = _slices(new)
        self.split_eps = nn.Parameter(like.new_zeros(sum(split.values())))
        self.new_eps = nn.Parameter(like.new_zeros(sum(new.values())))
        is_selected = torch.zeros_like(self.new_eps, dtype=torch.bool)
        self.register_buffer("is_selected", is_selected, persistent=False)

    def split_index(self, owners: Owners) -> Tensor:
        """For each index of an axis the index of its neuron in ``split_eps``, -1 where it has none.

        Args:
            owners: who owns each index of the axis.

        Returns:
            Integers, one per index of the axis.
        """
        width = torch.from_numpy(owners.width)
        neuron = torch.from_numpy(owners.neuron)
        index = torch.full_like(width, -1)
        for number in self.split.keys() & set(owners.width.tolist()):
            index = torch.where(width == number, self.split[number].start + neuron, index)
        return index


def _slices(counts: dict[int, int]) -> dict[int, slice]:
    """One slice per width, each behind the one before it."""
    slices = {}
    start = 0
    for width, count in counts.items():
        slices[width] = slice(start, start + count)
        start += count
    return slices
