"""Carry out IndexMaps on a module: parameters, buffers, gradients, attributes, and an optimiser's state."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fxgrow.surgery.attributes import sync_size_attributes
from fxgrow.surgery.index_map import IndexMap

Maps = Mapping[tuple[str, int], IndexMap]


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by name; a tied one under its first name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@torch.no_grad()
def resize(module: nn.Module, maps: Maps, optimizer: Optimizer | None = None) -> None:
    """Map every named axis in place; the parameter objects stay the same, fresh entries are zero.

    Gradients and every tensor of the optimiser's state that has its parameter's shape follow the same maps (unscaled:
    they describe the neuron that was copied); fresh entries start at zero, the initial state of torch's optimisers.
    """
    by_name: dict[str, dict[int, IndexMap]] = defaultdict(dict)
    for (name, axis), index_map in maps.items():
        by_name[name][axis] = index_map
    found = named_tensors(module)
    owners = {_owner(name) for name in by_name}
    for name, axes in by_name.items():
        tensor = found[name]
        gradient = None if tensor.grad is None else apply_maps(tensor.grad, axes, scaled=False)
        if optimizer is not None:
            _map_state(optimizer.state.get(tensor, {}), tensor, axes)
        tensor.grad = None
        tensor.data = apply_maps(tensor.data, axes)
        tensor.grad = gradient
    tied = {id(found[name]) for name in by_name}
    for path, owner in module.named_modules():
        own = (*owner.parameters(recurse=False), *owner.buffers(recurse=False))
        if path in owners or any(id(tensor) in tied for tensor in own):
            sync_size_attributes(owner)


def _owner(name: str) -> str:
    """The module whose sizes depend on a parameter; of a parametrised weight the module that uses it."""
    user, parametrised, _ = name.partition(".parametrizations.")
    return user if parametrised else name.rpartition(".")[0]


def apply_maps(tensor: Tensor, axes: Mapping[int, IndexMap], scaled: bool = True) -> Tensor:
    """A tensor with several axes mapped."""
    for axis, index_map in sorted(axes.items()):
        tensor = index_map.apply(tensor, axis, scaled)
    return tensor.contiguous()


def _map_state(state: dict[str, Any], parameter: Tensor, axes: Mapping[int, IndexMap]) -> None:
    for key, value in state.items():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            state[key] = apply_maps(value, axes, scaled=False)
