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
from fxgrow.surgery.index_map import IndexMap
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
    """The norms of directions as they were before a change.

    Args:
        norms: for each weight whose norms change what they were.
        maps: the maps of all axes.
    """

    norms: Mapping[NormalizedWeight, Tensor]
    maps: Mapping[tuple[str, int], IndexMap]

    @staticmethod
    @torch.no_grad()
    def of(module: nn.Module, maps: Mapping[tuple[str, int], IndexMap]) -> "KeptNorms":
        """Remember the norms that a change of shapes is about to change.

        Args:
            module: the module as it was.
            maps: the map of each axis that changes.
        """
        tensors = named_tensors(module)
        norms = {}
        for weight in normalized_weights(module):
            direction = tensors[weight.direction]
            summed = [axis for axis in range(direction.dim()) if axis != weight.dim]
            if any((weight.direction, axis) in maps for axis in summed):
                norms[weight] = _norms(direction, weight.dim)
        return KeptNorms(norms, maps)

    @torch.no_grad()
    def restore(self, module: nn.Module) -> None:
        """Scale the gains so that the old entries of every weight are what they should be.

        Args:
            module: the module, changed.
        """
        tensors = named_tensors(module)
        for weight, before in self.norms.items():
            gain, after = tensors[weight.gain], _norms(tensors[weight.direction], weight.dim)
            index_map = self.maps.get((weight.direction, weight.dim))
            if index_map is not None:
                before = apply_maps(before, {weight.dim: index_map}, scaled=False)
                # The gain of a new slice is what it was given.
                new = index_map.new.to(before.device)
                before = before.index_copy(weight.dim, new, after.index_select(weight.dim, new))
            # New data and not the old in place, which is what the module is put back to on failure.
            gain.data = gain.data * (after / before).reshape(gain.shape)
        for path in {weight.gain.rpartition(".")[0] for weight in self.norms}:
            refresh_weights(module.get_submodule(path))


def _norms(direction: Tensor, dim: int) -> Tensor:
    """The norm of every slice along ``dim``, with as many dimensions as v."""
    summed = [axis for axis in range(direction.dim()) if axis != dim]
    norms: Tensor = torch.linalg.vector_norm(direction, dim=summed, keepdim=True)
    return norms
