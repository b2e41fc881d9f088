"""Which entries of a network's tensors are whose, and where they lie in the master network.

An entry of a parameter lies on one neuron per axis, or on none. It is *fresh* in a task if one of its neurons is: an
unlocked copy or a new neuron. So a connection from a new neuron into a locked one is fresh, and no earlier task, whose
mask lacks the new neuron, ever sees it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

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
    """The tensors that every task has for itself: its head, the parameters of normalisations, and all buffers."""
    own = {path for path, module in model.named_modules() if isinstance(module, _NORM_TYPES)} | {
        head
    }
    parameters = (name for name, _ in model.named_parameters() if name.rpartition(".")[0] in own)
    return frozenset(parameters) | {name for name, _ in model.named_buffers()}


def new_entry_masks(model: nn.Module, coupling: Coupling, new: Masks) -> dict[str, Tensor]:
    """For each parameter and buffer that has some: which of its entries lie on a ``fresh`` neuron, in its shape."""
    found: dict[str, Tensor] = {}
    held = named_tensors(model)
    for (name, axis), owners in coupling.owners.items():
        if name in held:
            marks = reshape_along(_marks(coupling, owners, new), axis, held[name].dim())
            found[name] = found.get(
                name, torch.zeros_like(held[name], dtype=torch.bool)
            ) | marks.to(held[name].device)
    return {name: mask for name, mask in found.items() if mask.any()}


def _marks(coupling: Coupling, owners: Owners, new: Masks) -> Tensor:
    """Which indices of an axis belong to a fresh neuron."""
    width, neuron = torch.from_numpy(owners.width), torch.from_numpy(owners.neuron)
    marks = torch.zeros(len(width), dtype=torch.bool)
    for number, one in enumerate(coupling.widths):
        if one.name in new:
            mine = width == number
            marks[mine] = new[one.name][neuron[mine]]
    return marks


@torch.no_grad()
def merge_entries(
    small: nn.Module,
    of_small: Coupling,
    large: nn.Module,
    of_large: Coupling,
    places: Positions,
    free: Mapping[str, Tensor],
) -> None:
    """Write the entries ``free`` (per tensor a mask; those left out: none) of a task's network into the master network.

    Raises ``InternalError`` if any other entry differs between the two.
    """
    theirs = named_tensors(large)
    for name, tensor in named_tensors(small).items():
        axes = [
            _index(of_small, of_large, (name, axis), places, size)
            for axis, size in enumerate(tensor.shape)
        ]
        mask = free.get(name, torch.zeros_like(tensor, dtype=torch.bool))
        grid = tuple(map(torch.from_numpy, np.ix_(*axes))) if axes else ()
        kept = theirs[name][grid]
        if not torch.equal(kept[~mask], tensor[~mask]):
            raise InternalError(f"training changed {name} where it belongs to earlier tasks")
        theirs[name][grid] = torch.where(mask, tensor, kept)


def _index(
    small: Coupling, large: Coupling, key: tuple[str, int], places: Positions, size: int
) -> IntArray:
    """For each index of an axis of the small network its index in the large one, neuron by neuron in order."""
    if key not in small.owners:
        return np.arange(size)
    ours, theirs = small.owners[key], large.owners[key]
    numbers = {width.name: number for number, width in enumerate(large.widths)}
    found = {
        occurrence: index
        for index, occurrence in enumerate(_occurrences(theirs.width, theirs.neuron))
    }
    width, neuron = np.full((2, size), -1)
    for number, one in enumerate(small.widths):
        mine = ours.width == number
        width[mine] = numbers[one.name]
        neuron[mine] = (
            places[one.name].numpy()[ours.neuron[mine]] if one.name in places else ours.neuron[mine]
        )
    return np.array(
        [found[occurrence] for occurrence in _occurrences(width, neuron)], dtype=np.int64
    )


def _occurrences(width: IntArray, neuron: IntArray) -> Iterator[tuple[int, int, int]]:
    """The width and neuron of each index, and how often they came before."""
    seen: Counter[tuple[int, int]] = Counter()
    for pair in zip(width.tolist(), neuron.tolist(), strict=True):
        yield *pair, seen[pair]
        seen[pair] += 1
