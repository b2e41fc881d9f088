"""Which old neurons a new task uses: those whose removal its loss would notice.

Neuron i is removed by setting everything that reads it to zero. To first order that changes the loss by
-sum_W <dL/dW, W> over the entries W that read it (Molchanov et al., "Pruning Convolutional Neural Networks for Resource
Efficient Inference", ICLR 2017, Eq. 7, for whole neurons). The neurons with the smallest such change are left out, as
many as the loss really allows; how many are tried first is halved until it does.
"""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fxgrow.continual.ownership import Masks
from fxgrow.coupling import Coupling, Role
from fxgrow.growth import Objective, emit
from fxgrow.modes import evaluation_mode, frozen_parameters
from fxgrow.surgery import Change

_MAX_TRIALS = 3
_MAX_DROPPED_SHARE = 0.5
"""No width loses more of its neurons than this share."""
_MIN_NEURONS = 2
"""Of one neuron alone a depthwise convolution or a shuffle looks like none, and the width could not be told again."""


def maskable_widths(coupling: Coupling) -> list[int]:
    """The widths of which a task may use a part: growable ones whose order no replay decides."""
    replayed = coupling.replay.singly if coupling.replay else frozenset()
    return [
        number
        for number, width in enumerate(coupling.widths)
        if width.growable and number not in replayed
    ]


def submodel(model: nn.Module, coupling: Coupling, masks: Masks) -> nn.Module:
    """A copy of ``model`` with those neurons alone that ``masks`` keep; widths left out stay whole."""
    changes = {
        number: Change(tuple(masks[width.name].int().tolist()))
        for number, width in enumerate(coupling.widths)
        if width.name in masks and not masks[width.name].all()
    }
    compact = copy.deepcopy(model)
    emit(compact, coupling, changes, {})
    return compact


def full_masks(coupling: Coupling) -> dict[str, Tensor]:
    """The masks of a task that uses all neurons, of the widths of which it may use a part."""
    widths = (coupling.widths[number] for number in maskable_widths(coupling))
    return {width.name: torch.ones(width.size, dtype=torch.bool) for width in widths}


def select_reused(
    model: nn.Module, coupling: Coupling, objective: Objective, share: float, tolerance: float
) -> dict[str, Tensor]:
    """Masks of the neurons to use: as many as possible, up to ``share``, left out.

    The loss of what is left is at most ``1 + tolerance`` times the loss with all.
    """
    noticed = taylor_importance(model, coupling, objective)
    with evaluation_mode(model):
        most = objective.mean(model) * (1 + tolerance)
    for attempt in range(_MAX_TRIALS):
        masks = _without_least(full_masks(coupling), noticed, share / 2**attempt)
        with evaluation_mode(compact := submodel(model, coupling, masks)):
            if objective.mean(compact) <= most:
                return masks
    return full_masks(coupling)


def taylor_importance(
    model: nn.Module, coupling: Coupling, objective: Objective
) -> dict[str, Tensor]:
    """By name of the width: how much the loss would change without each neuron, to first order, as absolute values."""
    own = dict(model.named_parameters())
    readers = {
        s.parameter
        for n in maskable_widths(coupling)
        for s in coupling.widths[n].sites
        if s.role is Role.READS
    }
    products = _products(
        {name: own[name] for name in sorted(readers & own.keys())}, model, objective
    )
    return {
        coupling.widths[n].name: sum(
            (_along(coupling, n, s.key, products[s.parameter]) for s in coupling.widths[n].sites
             if s.role is Role.READS and s.parameter in products),
            torch.zeros(coupling.widths[n].size),
        ).abs()
        for n in maskable_widths(coupling)
    }  # fmt: skip


def _products(
    weights: Mapping[str, nn.Parameter], model: nn.Module, objective: Objective
) -> dict[str, Tensor]:
    """dL/dW * W of every weight, over all growth batches."""
    sizes = [len(target) for _, target in objective.batches]
    with frozen_parameters(model, except_for=weights), evaluation_mode(model):
        total: Any = 0
        for batch, size in zip(objective.batches, sizes, strict=True):
            total = total + objective.on(model, batch) * size
        found = torch.autograd.grad(
            total / sum(sizes), list(weights.values()), allow_unused=True, materialize_grads=True
        )
    return {
        name: (g * w).detach().cpu() for (name, w), g in zip(weights.items(), found, strict=True)
    }


def _along(coupling: Coupling, number: int, key: tuple[str, int], product: Tensor) -> Tensor:
    """What belongs to each neuron of a width along one axis, summed."""
    owners, (_, axis) = coupling.owners[key], key
    sums = product.movedim(axis, 0).flatten(1).sum(1) if product.dim() > 1 else product
    mine = owners.width == number
    total = torch.zeros(coupling.widths[number].size, dtype=sums.dtype)
    return total.index_add(
        0, torch.from_numpy(owners.neuron[mine]), sums[torch.from_numpy(np.flatnonzero(mine))]
    )


def _without_least(all_on: Masks, effects: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    masks = {name: mask.clone() for name, mask in all_on.items()}
    room = {
        name: max(0, min(int(len(mask) * _MAX_DROPPED_SHARE), len(mask) - _MIN_NEURONS))
        for name, mask in masks.items()
    }
    ranked = sorted(
        (float(value), name, i)
        for name, values in effects.items()
        for i, value in enumerate(values)
    )
    left = int(share * len(ranked))
    for _, name, neuron in ranked:
        if left and room[name]:
            masks[name][neuron] = False
            left, room[name] = left - 1, room[name] - 1
    return masks
