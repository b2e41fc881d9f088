"""How many bytes a wider model takes, counted before any of them is taken."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fxgrow.coupling import Coupling, Owners, meta_copy, meta_inputs
from fxgrow.errors import BudgetError
from fxgrow.memory import device_of, require_memory
from fxgrow.modes import evaluation_mode
from fxgrow.surgery import Change, named_tensors

_MAP_BYTES = 8  # per neuron of an axis: where it comes from
_COPIES = 2  # a tensor while it is filled: its values, and the place where they are put together
_NEW_BYTES = 8  # new entries are drawn in float64
_SMALL_FACTOR = 4
_ADVICE = "add fewer"


WidenInPlace = Callable[[nn.Module], object]
"""Widens a module in place."""


def require_growth_memory(
    model: nn.Module,
    coupling: Coupling,
    changes: Mapping[int, Change],
    inputs: tuple[Any, ...],
    grow: WidenInPlace,
) -> None:
    """Check that a wider model and a pass of the example inputs through it fit into memory.

    Args:
        model: the model before it grows.
        coupling: its widths.
        changes: what happens to each width, by its number.
        inputs: the example inputs, positional.
        grow: carries the changes out.

    Raises:
        BudgetError: ``too-large``, with the number of bytes.
    """
    device = device_of(model)
    needed = _grown_bytes(named_tensors(model), coupling, changes)
    require_memory(needed, "so many neurons", _ADVICE, BudgetError, device)
    # A model that ran before runs when it is a few times as wide.
    if max(map(_factor, changes.values())) > _SMALL_FACTOR:
        largest = _largest_value(model, inputs, grow)
        what = "the values of one pass with so many neurons"
        require_memory(_COPIES * largest, what, _ADVICE, BudgetError, device)


def _largest_value(model: nn.Module, inputs: tuple[Any, ...], grow: WidenInPlace) -> int:
    """The bytes of the largest value of a pass through the wider model, found on shapes alone.

    0 if the model's code does not run on the meta device.
    """
    bare, mode = meta_copy(model), _Largest()
    try:
        grow(bare)
        with torch.no_grad(), evaluation_mode(bare), mode:
            bare(*meta_inputs(inputs))
    except Exception:  # noqa: BLE001 - whatever the model's own code raises there
        return 0
    return mode.bytes


def candidate_bytes(model: nn.Module, coupling: Coupling, added: Mapping[int, int]) -> int:
    """Count the bytes of the parameters of candidate neurons.

    Args:
        model: the model.
        coupling: its widths.
        added: per number of a width how many candidates it gets.

    Returns:
        Bytes.
    """
    tensors = named_tensors(model)
    total = 0
    for number, count in added.items():
        width = coupling.widths[number]
        for site in width.sites:
            tensor = tensors.get(site.parameter)
            if tensor is not None and width.size:
                total += count * tensor.numel() * tensor.element_size() // width.size
    return total


def _factor(change: Change) -> float:
    before = len(change.times)
    return (sum(change.times) + change.new) / max(before, 1)


def _grown_bytes(
    tensors: Mapping[str, Tensor], coupling: Coupling, changes: Mapping[int, Change]
) -> int:
    """The bytes of all tensors after growth, with what is needed to fill those that grow."""
    lengths: dict[str, list[int]] = {}
    maps = 0
    for key, owners in coupling.owners.items():
        name, axis = key
        tensor = tensors.get(name)
        if tensor is None or not isinstance(axis, int):
            continue
        length = _grown_length(owners, changes)
        if length != tensor.shape[axis]:
            lengths.setdefault(name, list(tensor.shape))[axis] = length
            maps += _MAP_BYTES * length
    total = maps
    for name, tensor in tensors.items():
        each = tensor.element_size()
        if name in lengths:
            each = _COPIES * each + _NEW_BYTES
        total += each * _product(lengths.get(name, tensor.shape))
    return total


def _product(sizes: Any) -> int:
    product = 1
    for size in sizes:
        product *= int(size)
    return product


def _grown_length(owners: Owners, changes: Mapping[int, Change]) -> int:
    """How long an axis is after growth."""
    length = len(owners.width)
    for number, change in changes.items():
        neurons = owners.neuron[owners.width == number]
        if not len(neurons):
            continue
        times = np.array(change.times, dtype=object)  # exact, whatever was asked for
        length += int(times[neurons].sum()) - len(neurons)
        length += int((neurons == len(change.times) - 1).sum()) * change.new
    return length


class _Largest(TorchDispatchMode):
    """Remembers the bytes of the largest value that an operator gives."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.bytes = max(self.bytes, leaf.numel() * leaf.element_size())
        return result
