"""Carry out IndexMaps on a module: parameters, buffers, gradients, attributes, optimizer state."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fxgrow.surgery.attributes import sync_size_attributes
from fxgrow.surgery.index_map import IndexMap

Maps = Mapping[tuple[str, int], IndexMap]
"""The map of each (parameter or buffer, axis)."""


CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""The memory format with the channels last, by the number of dimensions."""


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by name; a tied one under its first name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@torch.no_grad()
def resize(module: nn.Module, maps: Maps, optimizer: Optimizer | None = None) -> None:
    """Map axes in place; the parameter objects stay the same, new entries are zero.

    Gradients, and every tensor of the optimizer's state that has its parameter's shape, follow the
    same maps, unscaled: they describe the neuron that was copied. Their new entries start at zero,
    the initial state of torch's optimizers.

    Args:
        module: the module to change.
        maps: the map of each axis that changes.
        optimizer: the optimizer of the module, if it is being trained.
    """
    maps_by_name: dict[str, dict[int, IndexMap]] = defaultdict(dict)
    for (name, axis), index_map in maps.items():
        maps_by_name[name][axis] = index_map
    tensors = named_tensors(module)
    for name, axes in maps_by_name.items():
        tensor = tensors[name]
        gradient = None if tensor.grad is None else apply_maps(tensor.grad, axes, scaled=False)
        if optimizer is not None:
            _map_state(optimizer.state.get(tensor, {}), tensor, axes)
        # A gradient must have its tensor's shape at all times.
        tensor.grad = None
        tensor.data = apply_maps(tensor.data, axes)
        tensor.grad = gradient
    resized_ids = {id(tensors[name]) for name in maps_by_name}
    owner_paths = {_owner(name) for name in maps_by_name}
    for path, owner in module.named_modules():
        # A tied tensor has other owners beside the one in its name.
        held = (*owner.parameters(recurse=False), *owner.buffers(recurse=False))
        if path in owner_paths or not resized_ids.isdisjoint(map(id, held)):
            sync_size_attributes(owner)


def _owner(name: str) -> str:
    """The path of the module whose sizes depend on a parameter.

    Of a parametrized weight it is the module that uses the weight.
    """
    user, is_parametrized, _ = name.partition(".parametrizations.")
    return user if is_parametrized else name.rpartition(".")[0]


def apply_maps(tensor: Tensor, axes: Mapping[int, IndexMap], scaled: bool = True) -> Tensor:
    """A tensor with several axes mapped.

    Args:
        tensor: any tensor.
        axes: the map of each axis that changes.
        scaled: see ``IndexMap.apply``.

    Returns:
        The mapped tensor, contiguous in the memory format of the given one.
    """
    memory_format = memory_format_of(tensor)
    for axis, index_map in sorted(axes.items()):
        tensor = index_map.apply(tensor, axis, scaled)
    return tensor.contiguous(memory_format=memory_format)


def memory_format_of(tensor: Tensor) -> torch.memory_format:
    """Whether a tensor lies in memory with its channels last.

    Args:
        tensor: ``[batch, channels, ...]``.

    Returns:
        ``torch.channels_last`` or ``torch.channels_last_3d`` if its strides are exactly those of
        this format, else ``torch.contiguous_format``.
    """
    channels_last = CHANNELS_LAST.get(tensor.dim())
    if channels_last is None:
        return torch.contiguous_format
    # With one channel, or no space, a tensor is contiguous in both formats: only strides differ.
    strides = []
    for candidate in (torch.contiguous_format, channels_last):
        example = torch.empty(tensor.shape, device="meta", memory_format=candidate)
        strides.append(example.stride())
    plain, last = strides
    return channels_last if plain != tensor.stride() == last else torch.contiguous_format


def _map_state(state: dict[str, Any], parameter: Tensor, axes: Mapping[int, IndexMap]) -> None:
    """Map what an optimizer keeps per entry of a parameter (momentum, say)."""
    for key, value in state.items():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            state[key] = apply_maps(value, axes, scaled=False)
