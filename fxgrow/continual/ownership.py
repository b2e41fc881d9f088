"""Which entries of a network's tensors are whose, and where they lie in the master network.

An entry of a parameter lies on one neuron per axis, or on none. It is *new* in a task if one of its
neurons is: an unlocked copy or an added neuron. So a connection from a new neuron into a locked one
is new, and no earlier task, whose mask lacks the new neuron, ever sees it.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from fxgrow.coupling import Coupling, Owners
from fxgrow.errors import InternalError
from fxgrow.surgery import IntArray, named_tensors, reshape_along

Masks = Mapping[str, Tensor]
"""Per name of a width one boolean per neuron."""
Positions = Mapping[str, Tensor]
"""Per name of a width the place of each neuron in the master network."""

_NORM_TYPES = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
"""Layers whose parameters are each task's own, as their statistics are."""


def task_owned_tensors(model: nn.Module, head: str) -> frozenset[str]:
    """List the tensors that every task has for itself.

    Args:
        model: a network.
        head: the path of its head.

    Returns:
        The names of all buffers, and of the parameters of its head and of normalizations.
    """
    owner_paths = {head}
    for path, module in model.named_modules():
        if isinstance(module, _NORM_TYPES):
            owner_paths.add(path)
    names = {name for name, _ in model.named_buffers()}
    for name, _ in model.named_parameters():
        if name.rpartition(".")[0] in owner_paths:
            names.add(name)
    return frozenset(names)


def all_entries(tensors: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """Make masks that hold every entry.

    Args:
        tensors: tensors by name.
        names: which of them get a mask.

    Returns:
        By name a mask in the tensor's shape, true everywhere.
    """
    masks: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in names:
            masks[name] = torch.ones_like(tensor, dtype=torch.bool)
    return masks


def new_entry_masks(model: nn.Module, coupling: Coupling, new: Masks) -> dict[str, Tensor]:
    """Mark the entries that lie on a new neuron.

    Args:
        model: a network.
        coupling: its coupling.
        new: by name of a width, which of its neurons are new.

    Returns:
        By name of a parameter or buffer a mask in its shape; those without a new entry are left
        out.
    """
    masks: dict[str, Tensor] = {}
    tensors = named_tensors(model)
    for (name, axis), owners in coupling.owners.items():
        if name not in tensors:
            continue
        tensor = tensors[name]
        if name not in masks:
            masks[name] = torch.zeros_like(tensor, dtype=torch.bool)
        along = reshape_along(_new_along(coupling, owners, new), axis, tensor.dim())
        # An entry is new if its neuron along any axis is: the axes are joined by "or".
        masks[name] = masks[name] | along.to(tensor.device)
    return {name: mask for name, mask in masks.items() if mask.any()}


def _new_along(coupling: Coupling, owners: Owners, new: Masks) -> Tensor:
    """Which indices of an axis belong to a new neuron."""
    width, neuron = torch.from_numpy(owners.width), torch.from_numpy(owners.neuron)
    is_new = torch.zeros(len(width), dtype=torch.bool)
    for number, candidate in enumerate(coupling.widths):
        if candidate.name in new:
            here = width == number
            is_new[here] = new[candidate.name][neuron[here]]
    return is_new


@torch.no_grad()
def merge_entries(
    small: nn.Module,
    of_small: Coupling,
    large: nn.Module,
    of_large: Coupling,
    places: Positions,
    free: Mapping[str, Tensor],
) -> None:
    """Write the free entries of a task's network into the master network, in place.

    Args:
        small: the task's network.
        of_small: its coupling.
        large: the master network.
        of_large: its coupling.
        places: where the neurons of the small network are in the large one; widths that are left
            out are whole.
        free: by name of a tensor, which of its entries the task may have changed; of tensors that
            are left out, none.

    Raises:
        InternalError: if any other entry differs between the two.
    """
    master_tensors = named_tensors(large)
    for name, tensor in named_tensors(small).items():
        axis_indices: list[IntArray] = []
        for axis, size in enumerate(tensor.shape):
            axis_indices.append(_master_indices(of_small, of_large, (name, axis), places, size))
        # np.ix_ makes one index array per axis that together pick a sub-block of the large tensor.
        block = tuple(map(torch.from_numpy, np.ix_(*axis_indices))) if axis_indices else ()
        mask = free.get(name, torch.zeros_like(tensor, dtype=torch.bool))
        target = master_tensors[name]
        # What the master network had there: [as the small tensor]
        before = target[block]
        if not torch.equal(before[~mask], tensor[~mask]):
            raise InternalError(f"training changed {name} where it belongs to earlier tasks")
        target[block] = torch.where(mask, tensor, before)


def _master_indices(
    small: Coupling, large: Coupling, key: tuple[str, int], places: Positions, size: int
) -> IntArray:
    """For each index of an axis of the small network its index in the large one.

    A neuron may own several indices of an axis (the pixels of a flattened map): the k-th one of a
    neuron in the small network is its k-th one in the large network.
    """
    # Nobody owns this axis (a kernel, or input channels): indices are the same.
    if key not in small.owners:
        return np.arange(size)
    in_small, in_large = small.owners[key], large.owners[key]
    # Width and neuron of each small index, in the numbers of the large network.
    width, neuron = np.full((2, size), -1)
    large_numbers = {candidate.name: number for number, candidate in enumerate(large.widths)}
    for number, candidate in enumerate(small.widths):
        here = in_small.width == number
        width[here] = large_numbers[candidate.name]
        neurons = in_small.neuron[here]
        if candidate.name in places:
            neurons = places[candidate.name].numpy()[neurons]
        neuron[here] = neurons
    index_of: dict[tuple[int, int, int], int] = {}
    for index, occurrence in enumerate(_occurrences(in_large.width, in_large.neuron)):
        index_of[occurrence] = index
    indices = [index_of[occurrence] for occurrence in _occurrences(width, neuron)]
    return np.array(indices, dtype=np.int64)


def _occurrences(width: IntArray, neuron: IntArray) -> Iterator[tuple[int, int, int]]:
    """The width and neuron of each index, and how often that pair came before."""
    seen: Counter[tuple[int, int]] = Counter()
    for pair in zip(width.tolist(), neuron.tolist(), strict=True):
        yield *pair, seen[pair]
        seen[pair] += 1
