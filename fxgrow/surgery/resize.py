"""Carry out IndexMaps on a module: parameters, buffers, gradients, attributes, optimizer state."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fxgrow.sharding import keep_sharded
from fxgrow.surgery.attributes import sync_size_attributes
from fxgrow.surgery.index_map import IndexMap
from fxgrow.surgery.memory_format import memory_format_of
from fxgrow.surgery.state_rules import DEFAULT_TREATMENT, StateTreatment

Maps = Mapping[tuple[str, int], IndexMap]
"""The map of each (parameter or buffer, axis)."""


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by name; a tied one under its first name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@torch.no_grad()
def resize(
    module: nn.Module,
    maps: Maps,
    optimizers: Sequence[Optimizer] = (),
    treatment: StateTreatment = DEFAULT_TREATMENT,
) -> None:
    """Map axes in place; the parameter objects stay the same, new entries are zero.

    Gradients follow the same maps, unscaled: they describe the neuron that was copied.

    Args:
        module: the module to change.
        maps: the map of each axis that changes.
        optimizers: those of the module, if it is being trained.
        treatment: what becomes of their state.
    """
    maps_by_name: dict[str, dict[int, IndexMap]] = defaultdict(dict)
    for (name, axis), index_map in maps.items():
        maps_by_name[name][axis] = index_map
    tensors = named_tensors(module)
    for name, axes in maps_by_name.items():
        tensor = tensors[name]
        gradient = None if tensor.grad is None else apply_maps(tensor.grad, axes, scaled=False)
        for optimizer in optimizers:
            treatment.carry(optimizer, tensor, axes)
        replace_data(tensor, apply_maps(tensor.data, axes), gradient)
        for optimizer in optimizers:
            keep_sharded(tensor, optimizer.state.get(tensor, {}))
    resized_ids = {id(tensors[name]) for name in maps_by_name}
    owner_paths = {_owner(name) for name in maps_by_name}
    for path, owner in module.named_modules():
        # A tied tensor has other owners beside the one in its name.
        held = (*owner.parameters(recurse=False), *owner.buffers(recurse=False))
        if path in owner_paths or not resized_ids.isdisjoint(map(id, held)):
            sync_size_attributes(owner)


def replace_data(tensor: Tensor, data: Tensor, gradient: Tensor | None) -> None:
    """Give a tensor other data, of any shape, and the gradient that belongs to it.

    Autograd remembers the shape of a leaf for as long as some old result (the last loss, say) is
    alive, and would reject the next gradient. It forgets it when the dtype changes.

    Args:
        tensor: a parameter or buffer, which stays the same object.
        data: its new data.
        gradient: its new gradient, None for none.
    """
    # A gradient must have its tensor's shape at all times.
    tensor.grad = None
    if tensor.shape != data.shape:
        other = torch.float64 if data.dtype != torch.float64 else torch.float32
        tensor.data = data.new_empty(0, dtype=other)
    tensor.data = data
    tensor.grad = gradient


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
        The mapped tensor, contiguous in the memory format of the given one; sparse if that is.
    """
    if tensor.layout is torch.sparse_coo:
        return _apply_to_sparse(tensor, axes, scaled)
    memory_format = memory_format_of(tensor)
    for axis, index_map in sorted(axes.items()):
        tensor = index_map.apply(tensor, axis, scaled)
    return tensor.contiguous(memory_format=memory_format)


def _apply_to_sparse(tensor: Tensor, axes: Mapping[int, IndexMap], scaled: bool) -> Tensor:
    """The same of a gradient by ``nn.Embedding(sparse=True)``.

    It holds the rows that were looked up, ``[rows]`` indices and ``[rows, width]`` values. Rows
    that are not held are no zeros: what steps by it leaves them alone.
    """
    tensor = tensor.coalesce()
    held = tensor.sparse_dim()
    if any(axis < held for axis in axes):  # the rows themselves grow, which no embedding's do
        return apply_maps(tensor.to_dense(), axes, scaled).to_sparse(held)
    # The values have one axis, that of the held entries, in place of the sparse ones.
    inner = {axis - held + 1: index_map for axis, index_map in axes.items()}
    values = apply_maps(tensor.values(), inner, scaled)
    shape = (*tensor.shape[:held], *values.shape[1:])
    return torch.sparse_coo_tensor(
        tensor.indices(), values, shape, check_invariants=True, is_coalesced=True
    )
