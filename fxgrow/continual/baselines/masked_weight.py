"""A weight of which one part is owned by earlier tasks and picked from, and the other trained.

See ``compact_pick_grow`` for the paper. Picking is by a real-valued mask that is cut at a threshold
(Mallya et al. 2018, "Piggyback").
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fxgrow.coupling import couple
from fxgrow.growth import Widened, widen
from fxgrow.surgery import NEW_INDEX, IndexMap

_MASK_START = 0.01
"""The score that every entry starts with: at first all is picked (Mallya et al. 2018, Sec. 4)."""
_MASK_THRESHOLD = 0.005
"""An entry is picked if its score is larger."""


class MaskedWeight(nn.Module):
    """A weight made of picked old values, own trained values, and zeros.

    Old values lie where ``owned`` is set; of them the weight has those whose scores pass the
    threshold. Own values stand where ``own_mask`` is set.

    Args:
        weight: the old values, and where the own ones start.
        owned: which entries belong to earlier tasks.

    Shapes:
        All tensors have the shape of ``weight``.
    """

    own_mask: Tensor
    owned: Tensor
    old: Tensor

    def __init__(self, weight: Tensor, owned: Tensor) -> None:
        super().__init__()
        self.own = nn.Parameter(weight.detach().clone())
        self.scores = nn.Parameter(torch.full_like(weight, _MASK_START))
        self.register_buffer("old", weight.detach().clone())
        self.register_buffer("owned", owned.clone())
        self.register_buffer("own_mask", ~owned)

    def forward(self) -> Tensor:
        """Compute the weight; scores get the gradient of a mask that is not cut."""
        passed = (self.scores > _MASK_THRESHOLD).to(self.old)
        # Straight-through estimator: the difference is exactly zero, but its gradient is one.
        mask = passed + (self.scores - self.scores.detach())
        picked = torch.where(self.owned, self.old * mask, 0)
        return torch.where(self.own_mask, self.own, picked)

    @torch.no_grad()
    def prune(self, sparsity: float) -> None:
        """Give up the smallest own weights, until a share of all that are not owned is given up.

        Args:
            sparsity: that share, from 0 to 1; what was given up before counts.
        """
        # Flat indices of all entries that are not owned by earlier tasks.
        positions = (~self.owned).flatten().nonzero()[:, 0]
        # What was given up before comes first again: no magnitude is below -1.
        magnitudes = torch.where(self.own_mask, self.own.abs(), -1).flatten()[positions]
        given_up = magnitudes.argsort(stable=True)[: round(sparsity * len(positions))]
        self.own_mask.view(-1)[positions[given_up]] = False

    def used(self) -> Tensor:
        """Mark the entries that are not zero by decision: own ones, and picked old ones."""
        return self.own_mask | (self.owned & (self.scores > _MASK_THRESHOLD))

    def merged(self) -> Tensor:
        """Give old values where they are owned, and own ones elsewhere, pruned or not."""
        return torch.where(self.owned, self.old, self.own.detach())


@dataclass(frozen=True, eq=False)
class WeightUse:
    """Which entries of a shared weight, which may have grown since, a task uses.

    Args:
        mask: the entries that it uses, in the size that the weight had when the task was learned.
        places: for every axis the indices of the shared weight that make up that size.
    """

    mask: Tensor
    places: tuple[Tensor, ...]

    @staticmethod
    def of_all(mask: Tensor) -> "WeightUse":
        """Use entries of a weight that is as large as their mask."""
        return WeightUse(mask, tuple(torch.arange(size, device=mask.device) for size in mask.shape))

    def of(self, weight: Tensor) -> Tensor:
        """Cut the task's weight out of the shared one; entries that it does not use are zero."""
        for axis, places in enumerate(self.places):
            weight = weight.index_select(axis, places)
        return torch.where(self.mask, weight, 0)

    def moved(self, maps: Mapping[int, IndexMap]) -> "WeightUse":
        """Follow a growth of the shared weight that only added entries.

        Args:
            maps: by axis, where each new index comes from; other axes stay as they are.

        Returns:
            The use of the same entries in the larger weight.
        """
        places: list[Tensor] = []
        for axis, old_places in enumerate(self.places):
            if axis in maps:
                # The k-th old index lies where the k-th entry that is not new is now.
                old_to_new = (maps[axis].source != NEW_INDEX).nonzero()[:, 0]
                places.append(old_to_new.to(old_places.device)[old_places])
            else:
                places.append(old_places)
        return WeightUse(self.mask, tuple(places))


def widen_all(model: nn.Module, example_inputs: Any, factor: float, seed: int) -> Widened | None:
    """Widen a copy of a model in every growable width, by neurons without effect.

    Args:
        model: the model.
        example_inputs: its inputs, as ``fxgrow.capture`` takes them.
        factor: how many times as wide each width becomes, rounded up.
        seed: decides the weights into the new neurons.

    Returns:
        The copy with a record of where each entry came from; None if no width can grow.
    """
    amounts: dict[str, int] = {}
    for width in couple(model, example_inputs).widths:
        if width.growable:
            amounts[width.name] = math.ceil(width.size * (factor - 1))
    return widen(model, amounts, example_inputs, how="new", seed=seed) if amounts else None
