"""Emission: carry selected candidates out on a module (DESIGN section 4).

Let M_a be the IndexMap of axis a of a parameter W. The emitted parameter is

    W' = M(W) + sum_a sign_a * M(D_a) + sum_a M_{-a}(place_a(F_a))

with D_a the perturbation (eps delta) of the neurons along a, added to the original and subtracted from its copy, and
F_a the fresh entries along a; M maps all axes (readers halved for split neurons) and M_{-a} all but a.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fxgrow.coupling import Coupling, change_maps, set_attributes
from fxgrow.surgery import Change, IndexMap, Maps, apply_maps, named_tensors, reshape_along, resize


@dataclass(frozen=True)
class ParameterUpdate:
    """What one parameter receives, per axis.

    ``delta[a]`` has its old shape; ``fresh[a]`` has one entry per fresh neuron's place along a and the old size along
    the other axes.
    """

    delta: Mapping[int, Tensor] = field(default_factory=dict)
    new: Mapping[int, Tensor] = field(default_factory=dict)


def emit(
    module: nn.Module,
    coupling: Coupling,
    changes: Mapping[int, Change],
    fillings: Mapping[str, ParameterUpdate],
    optimizer: Optimizer | None = None,
) -> dict[tuple[str, int], IndexMap]:
    """Carry out ``changes`` (per number of a width) on ``module`` in place; gives back the IndexMaps."""
    found = named_tensors(module)
    maps = {key: m for key, m in change_maps(coupling, changes).items() if key[0] in found}
    resize(module, maps, optimizer)
    set_attributes(module, coupling, changes)
    apply_updates(module, maps, {name: f for name, f in fillings.items() if name in found})
    return maps


@torch.no_grad()
def apply_updates(module: nn.Module, maps: Maps, fillings: Mapping[str, ParameterUpdate]) -> None:
    """Add the fillings to an already resized module."""
    axes: dict[str, dict[int, IndexMap]] = defaultdict(dict)
    for (name, axis), index_map in maps.items():
        axes[name][axis] = index_map
    found = named_tensors(module)
    for name, filling in fillings.items():
        mine = axes[name]
        for axis, delta in filling.delta.items():
            if axis in mine:
                signs = reshape_along(split_signs(mine[axis]).to(delta), axis, delta.dim())
                found[name].data += apply_maps(delta, mine) * signs
        for axis, values in filling.new.items():
            if axis in mine and len(mine[axis].new):
                others = {a: m for a, m in mine.items() if a != axis}
                found[name].data += apply_maps(mine[axis].place(values, axis), others)


def split_signs(index_map: IndexMap) -> Tensor:
    """+1 for the original of a split neuron, -1 for its first copy, 0 for everything else."""
    old = index_map.source >= 0
    counts = torch.bincount(index_map.source[old])
    split = torch.zeros_like(index_map.scale)
    split[old] = (counts[index_map.source[old]] > 1).to(split)
    sign = (index_map.copy == 0).to(split) - (index_map.copy == 1).to(split)
    return split * sign
