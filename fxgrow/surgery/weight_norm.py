"""Weight normalization ``w = g v / |v|``: its gains follow when the norms of directions change.

Where a row of v gets new entries, or shares out old ones among copies, its norm changes. With
``g' = g |v'| / |v|`` the old entries of w come out as if they had been mapped themselves:
``w' = g' v' / |v'| = (g / |v|) v'``, whatever was done to v.

Reference: Salimans, Kingma, "Weight Normalization", NeurIPS 2016, equation 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fxgrow.surgery.attributes import refresh_weights, weight_norm_hooks
from fxgrow.surgery.index_map import IndexMap, reshape_along
from fxgrow.surgery.resize import apply_maps, named_tensors

_WHOLE = -1
"""The ``dim`` of torch's weight normalization that stands for one norm of the whole weight."""


@dataclass(frozen=True)
class NormalizedWeight:
    """A weight of a module under weight normalization.

    Args:
        gain: name of g, one number per slice along ``dim``.
        direction: name of v.
        dim: the axis whose slices are normalized; -1: the whole weight is one slice.
    """

    gain: str
    direction: str
    dim: int


def normalized_weights(module: nn.Module) -> tuple[NormalizedWeight, ...]:
    """The weights under weight normalization, in either form that torch has.

    Args:
        module: the module to search.

    Returns:
        One entry for each, with the names of its parameters in ``module``.
    """
    found: list[NormalizedWeight] = []
    for path, submodule in module.named_modules():
        prefix = f"{path}." if path else ""
        for hook in weight_norm_hooks(submodule):
            parts = (f"{prefix}{hook.name}_g", f"{prefix}{hook.name}_v")
            found.append(NormalizedWeight(*parts, _dim_of(hook)))
        if isinstance(submodule, nn.utils.parametrize.ParametrizationList) and len(submodule) == 1:
            only: Any = submodule[0]
            if type(only) is nn.utils.parametrizations._WeightNorm:
                parts = (f"{prefix}original0", f"{prefix}original1")
                found.append(NormalizedWeight(*parts, only.dim))
    return tuple(found)


def _dim_of(hook: Any) -> int:
    """The old form says None for one norm of the whole weight, although torch types it as int."""
    return _WHOLE if hook.dim is None else int(hook.dim)


@dataclass(frozen=True)
class KeptNorms:
    """What is needed of weights as they were to keep their entries through a change.

    Args:
        lost: for each weight whose norms change, the squared norms of the entries that are dropped.
        maps: the maps of all axes.
    """

    lost: Mapping[NormalizedWeight, Tensor]
    maps: Mapping[tuple[str, int], IndexMap]

    @staticmethod
    @torch.no_grad()
    def of(module: nn.Module, maps: Mapping[tuple[str, int], IndexMap]) -> "KeptNorms":
        """Remember what a change of shapes is about to drop.

        Args:
            module: the module as it was.
            maps: the map of each axis that changes.
        """
        tensors = named_tensors(module)
        lost = {}
        for weight in normalized_weights(module):
            direction = tensors[weight.direction]
            summed = _summed_maps(weight, direction, maps)
            if summed:
                kept = direction
                for axis, index_map in summed.items():
                    kept = kept * reshape_along(_is_kept(index_map, kept, axis), axis, kept.dim())
                lost[weight] = _norms(direction - kept, weight.dim) ** 2
        return KeptNorms(lost, maps)

    @torch.no_grad()
    def restore(self, module: nn.Module) -> None:
        """Scale the gains so that the old entries of every weight are what they should be.

        Args:
            module: the module, changed.
        """
        tensors = named_tensors(module)
        for weight, lost in self.lost.items():
            gain, direction = tensors[weight.gain], tensors[weight.direction]
            # What would be there without copies and new entries: the row's own direction.
            own = direction
            for axis, index_map in _summed_maps(weight, direction, self.maps).items():
                own = _merged(own, index_map, axis)
            along = self.maps.get((weight.direction, weight.dim))
            if along is not None:
                lost = apply_maps(lost, {weight.dim: along}, scaled=False)
            before = (_norms(own, weight.dim) ** 2 + lost).sqrt()
            factor = torch.where(before > 0, _norms(direction, weight.dim) / before, 1.0)
            # New data and not the old in place, which is what the module is put back to on failure.
            gain.data = gain.data * factor.reshape(gain.shape)
        for path in sorted({weight.gain.rpartition(".")[0] for weight in self.lost}):
            refresh_weights(module.get_submodule(path))


def _summed_maps(
    weight: NormalizedWeight, direction: Tensor, maps: Mapping[tuple[str, int], IndexMap]
) -> dict[int, IndexMap]:
    """The maps of the axes over which the norms of a weight sum."""
    axes = [axis for axis in range(direction.dim()) if axis != weight.dim]
    return {axis: maps[weight.direction, axis] for axis in axes if (weight.direction, axis) in maps}


def _is_kept(index_map: IndexMap, tensor: Tensor, axis: int) -> Tensor:
    """1 for each old index of an axis that has a copy, 0 for one that is dropped."""
    kept = torch.zeros(tensor.shape[axis], dtype=tensor.dtype, device=tensor.device)
    old = index_map.source[index_map.source >= 0].to(tensor.device)
    return kept.index_fill(0, old, 1.0)


def _merged(tensor: Tensor, index_map: IndexMap, axis: int) -> Tensor:
    """The inverse of a map: copies become one entry again, and new entries are left out.

    Copies that share out an entry add up to it (scales of sum 1); whole copies are averaged.
    """
    is_old = index_map.source >= 0
    source = index_map.source[is_old].to(tensor.device)
    # Copies of one index are added up where it lay.
    old = tensor.index_select(axis, is_old.nonzero().reshape(-1).to(tensor.device))
    shape = list(tensor.shape)
    shape[axis] = int(index_map.source.max()) + 1
    total = tensor.new_zeros(shape).index_add(axis, source, old)
    scales = tensor.new_zeros(shape[axis]).index_add(0, source, index_map.scale[is_old].to(tensor))
    scales = torch.where(scales == 0, 1.0, scales)
    return total / reshape_along(scales, axis, tensor.dim())


def _norms(direction: Tensor, dim: int) -> Tensor:
    """The norm of every slice along ``dim``, with as many dimensions as v."""
    summed = [axis for axis in range(direction.dim()) if axis != dim]
    norms: Tensor = torch.linalg.vector_norm(direction, dim=summed, keepdim=True)
    return norms
