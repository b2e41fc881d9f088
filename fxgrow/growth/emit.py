"""Emission: carry the selected candidates out on a module.

Let M_a be the IndexMap of axis a of a parameter W. The emitted parameter is

    W' = M(W) + sum_a sign_a * M(D_a) + sum_a M_{-a}(place_a(N_a))

D_a is the perturbation (eps delta) of the neurons along a, added to the original and subtracted
from its copy; N_a are the new entries along a. M maps all axes (and halves the readers of a split
neuron), M_{-a} maps all axes but a. Of a width under norms M also multiplies by what makes up for
them, and new entries are finished afterwards (``norm_compensation``).

An unlocked neuron (continual learning) is changed in place, as no copy follows it: there sign_a is
1 and M does not halve.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fxgrow.coupling import Coupling, change_maps, set_attributes
from fxgrow.growth.norm_compensation import compensate_norms, scaled_maps
from fxgrow.modes import clear_caches
from fxgrow.surgery import (
    DEFAULT_TREATMENT,
    Change,
    IndexMap,
    KeptNorms,
    Maps,
    StateTreatment,
    apply_maps,
    named_tensors,
    random_entries,
    require_sizes_of_torch,
    reshape_along,
    resize,
)

TWIN_NOISE = 0.1
"""How much the outgoing weights of two copies differ, relative to the spread of a layer's."""


@dataclass(frozen=True)
class ParameterUpdate:
    """What one parameter receives, per axis.

    Args:
        delta: perturbations of existing neurons along an axis, in the parameter's old shape.
        new: entries of new neurons along an axis: one per place that they take there, and the old
            size along the other axes.
    """

    delta: Mapping[int, Tensor] = field(default_factory=dict)
    new: Mapping[int, Tensor] = field(default_factory=dict)


def emit(
    module: nn.Module,
    coupling: Coupling,
    changes: Mapping[int, Change],
    updates: Mapping[str, ParameterUpdate],
    optimizers: Sequence[Optimizer] = (),
    *,
    treatment: StateTreatment = DEFAULT_TREATMENT,
    unlocked: bool = False,
    twin_noise: torch.Generator | None = None,
) -> dict[tuple[str, int], IndexMap]:
    """Resize a module in place and add the updates to its parameters.

    Args:
        module: the module that ``coupling`` describes.
        coupling: its widths.
        changes: what happens to each width, by its number.
        updates: what each parameter receives, by its name.
        optimizers: their state is resized along with the parameters.
        treatment: what becomes of that state.
        unlocked: perturbations change neurons in place; no copy follows them.
        twin_noise: draws what tells copies apart that no update does (see ``part_twins``); None:
            they stay equal.

    Returns:
        The IndexMap of every axis (parameter name, axis) that changed.
    """
    # A tied parameter has several keys, and one tensor.
    present = named_tensors(module)
    maps = {}
    for key, index_map in change_maps(coupling, changes).items():
        if key[0] in present:
            maps[key] = index_map
    maps = scaled_maps(coupling, changes, maps)
    norms = KeptNorms.of(module, maps)
    neurons = sum(change.size for change in changes.values())
    resize(module, maps, optimizers, treatment.picked(neurons))
    set_attributes(module, coupling, changes)
    require_sizes_of_torch(module)
    known = {name: update for name, update in updates.items() if name in present}
    apply_updates(module, maps, known, unlocked=unlocked)
    compensate_norms(module, coupling, changes, maps)
    if twin_noise is not None:
        part_twins(module, maps, twin_noise)
    # After the updates: new entries lengthen a row as well as copies do.
    norms.restore(module)
    clear_caches(module)
    return maps


@torch.no_grad()
def apply_updates(
    module: nn.Module,
    maps: Maps,
    updates: Mapping[str, ParameterUpdate],
    *,
    unlocked: bool = False,
) -> None:
    """Add the updates to the parameters of a module that is resized already.

    Args:
        module: the resized module.
        maps: the IndexMaps by which it was resized.
        updates: what each parameter receives, by its name.
        unlocked: perturbations change neurons in place; no copy follows them.
    """
    maps_of: dict[str, dict[int, IndexMap]] = defaultdict(dict)
    for (name, axis), index_map in maps.items():
        maps_of[name][axis] = index_map
    tensors = named_tensors(module)
    for name, update in updates.items():
        by_axis = maps_of[name]
        for axis, delta in update.delta.items():
            if unlocked:
                tensors[name].data += apply_maps(delta, by_axis, scaled=False)
            elif axis in by_axis:
                signs = reshape_along(split_signs(by_axis[axis]).to(delta), axis, delta.dim())
                tensors[name].data += apply_maps(delta, by_axis) * signs
        for axis, values in update.new.items():
            if axis in by_axis and len(by_axis[axis].new):
                # Along the other axes the entries belong to old neurons, which may have copies.
                other_axes = {a: index_map for a, index_map in by_axis.items() if a != axis}
                placed = by_axis[axis].place(values, axis)
                tensors[name].data += apply_maps(placed, other_axes)


@torch.no_grad()
def part_twins(module: nn.Module, maps: Maps, generator: torch.Generator) -> None:
    """Tell copies of neurons apart: what reads n of them with w / n each reads w / n + r_i.

    Copies with equal outgoing weights get equal gradients, under SGD as under Adam, so they would
    stay one neuron for ever. The r_i of one neuron sum to zero: of all copies together a reader
    gets the same as before.

    Args:
        module: the resized module.
        maps: the IndexMaps by which it was resized.
        generator: of r, whose spread is about ``TWIN_NOISE`` times that of the weights.
    """
    tensors = named_tensors(module)
    for (name, axis), index_map in sorted(maps.items(), key=str):
        tensor = tensors[name]
        # What reads shares its weight out among copies; what writes is copied whole.
        is_shared_out = (index_map.source >= 0) & (index_map.scale != 1)
        places = is_shared_out.nonzero().reshape(-1)
        if tensor.is_meta or not len(places):
            continue
        noise = TWIN_NOISE * random_entries(tensor, axis, len(places), generator)
        centered = _centered(noise, axis, index_map.source[places])
        tensor.data.index_add_(axis, places.to(tensor.device), centered)


def _centered(noise: Tensor, axis: int, source: Tensor) -> Tensor:
    """Noise less its mean over the copies of one index.

    Args:
        noise: one entry per copy along ``axis``.
        axis: the axis.
        source: the index that each is a copy of.
    """
    _, group, count = source.unique(return_inverse=True, return_counts=True)
    group = group.to(noise.device)
    shape = list(noise.shape)
    shape[axis] = len(count)
    sums = noise.new_zeros(shape).index_add_(axis, group, noise)
    means = sums / reshape_along(count.to(noise), axis, noise.dim())
    return noise - means.index_select(axis, group)


def split_signs(index_map: IndexMap) -> Tensor:
    """The sign of a neuron's perturbation at every index of a grown axis.

    Args:
        index_map: where each index of the axis comes from.

    Returns:
        +1 for the original of a split neuron, -1 for its first copy, 0 for everything else.
    """
    is_old = index_map.source >= 0
    # A neuron is split if some index copies it; new entries (-1) copy nothing.
    copies_of = torch.bincount(index_map.source[is_old])
    is_split = torch.zeros_like(index_map.scale)
    is_split[is_old] = (copies_of[index_map.source[is_old]] > 1).to(is_split)
    is_original = (index_map.copy == 0).to(is_split)
    is_first_copy = (index_map.copy == 1).to(is_split)
    return is_split * (is_original - is_first_copy)
