"""A weight of which one part is owned by earlier tasks and picked from, and the other is trained (see CPG)."""

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
_MASK_THRESHOLD = 0.005
"""Of the scores (Mallya et al. 2018, Sec. 4: at first all is picked)."""


class MaskedWeight(nn.Module):
    """Gives a weight when it is called: old values where their scores pass the threshold, own ones where ``mine``.

    ``owned``: where the old values lie.
    """

    mine: Tensor
    owned: Tensor
    old: Tensor

    def __init__(self, weight: Tensor, owned: Tensor) -> None:
        super().__init__()
        self.own = nn.Parameter(weight.detach().clone())
        self.scores = nn.Parameter(torch.full_like(weight, _MASK_START))
        self.register_buffer("old", weight.detach().clone())
        self.register_buffer("owned", owned.clone())
        self.register_buffer("mine", ~owned)

    def forward(self) -> Tensor:
        """Scores get the gradient of a mask that is not cut; their difference to themselves adds an exact zero."""
        passed = (self.scores > _MASK_THRESHOLD).to(self.old)
        mask = passed + (self.scores - self.scores.detach())
        return torch.where(self.mine, self.own, torch.where(self.owned, self.old * mask, 0))

    @torch.no_grad()
    def prune(self, sparsity: float) -> None:
        """Of the places that are not owned by others, give up the smallest until the share ``sparsity`` is."""
        places = (~self.owned).flatten().nonzero()[:, 0]
        sizes = torch.where(self.mine, self.own.abs(), -1).flatten()[places]
        given_up = sizes.argsort(stable=True)[: round(sparsity * len(places))]
        self.mine.view(-1)[places[given_up]] = False

    def used(self) -> Tensor:
        """Where the weight is not zero by decision."""
        return self.mine | (self.owned & (self.scores > _MASK_THRESHOLD))

    def merged(self) -> Tensor:
        """The old values where they are owned, the own ones elsewhere, pruned or not."""
        return torch.where(self.owned, self.old, self.own.detach())


@dataclass(frozen=True, eq=False)
class WeightUse:
    """Which entries of a shared weight a task uses: of those at ``places``, the indices along every axis, ``mask``."""

    mask: Tensor
    places: tuple[Tensor, ...]

    @staticmethod
    def of_all(mask: Tensor) -> "WeightUse":
        """Of a weight that is as large as the mask."""
        return WeightUse(mask, tuple(torch.arange(size, device=mask.device) for size in mask.shape))

    def of(self, weight: Tensor) -> Tensor:
        """The weight as the task computes with it, in its own size."""
        for axis, places in enumerate(self.places):
            weight = weight.index_select(axis, places)
        return torch.where(self.mask, weight, 0)

    def moved(self, maps: Mapping[int, IndexMap]) -> "WeightUse":
        """The same entries after a growth that only added some (``maps``: by axis)."""
        kept = {axis: (found.source != NEW_INDEX).nonzero()[:, 0] for axis, found in maps.items()}
        places = (
            kept[axis].to(old.device)[old] if axis in kept else old
            for axis, old in enumerate(self.places)
        )
        return WeightUse(self.mask, tuple(places))


def widen_mask(model: nn.Module, example_inputs: Any, factor: float, seed: int) -> Widened | None:
    """A copy with every growable width ``factor`` times as wide, by neurons without effect; None if none can grow."""
    sizes = {
        width.name: width.size for width in couple(model, example_inputs).widths if width.growable
    }
    amounts = {name: math.ceil(size * (factor - 1)) for name, size in sizes.items()}
    return widen(model, amounts, example_inputs, how="new", seed=seed) if amounts else None
