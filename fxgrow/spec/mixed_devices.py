"""Operators whose arguments lie partly on the meta device, where tensors have no values.

A model that is run on shapes alone still makes tensors with values: integers of its input, its
constants, and what ``torch.arange`` or ``torch.zeros`` give. They keep their values as long as they
are among themselves, because sizes may follow from them (``lengths.max().item()``). Where one meets
a tensor without values, it goes to the meta device too.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from fxgrow.meta import META

aten = torch.ops.aten

_INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
"""Operators whose second argument may hold masks: the shape of the result is that of their ones."""

_MASKS = (torch.bool, torch.uint8)


@dataclass(frozen=True)
class MetaMeeting:
    """Brings the arguments of one operator after the other to the meta device, where they must.

    Args:
        hollow: storages with values that a tensor without values was written into, by their
            address: they count as without values from then on. Holding one keeps its address.
    """

    hollow: dict[int, Any] = field(default_factory=dict)

    def arguments(self, func: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """The arguments of an operator, as it can be called.

        Args:
            func: an operator overload of torch.
            args: its positional arguments.
            kwargs: its keyword arguments.

        Returns:
            Both, all on the meta device if any of them has no values.
        """
        lacks_values = has_values = False
        for tensor in _tensors((*args, *kwargs.values())):
            lacking = tensor.is_meta or (bool(self.hollow) and self._is_hollow(tensor))
            lacks_values |= lacking
            has_values |= not tensor.is_meta
        if not lacks_values:
            return args, kwargs
        if "device" in kwargs:  # ``mask.to("cpu")``: there are no values to take along
            kwargs = {**kwargs, "device": META}
        if has_values:
            self._note_written(func, args, kwargs)
            if func in _INDEXING:
                args = (args[0], self._positions(args[1]), *args[2:])
            args, kwargs = tree_map(_to_meta, (args, kwargs))
        return args, kwargs

    def _is_hollow(self, tensor: Tensor) -> bool:
        return not tensor.is_meta and tensor.untyped_storage()._cdata in self.hollow

    def _note_written(self, func: Any, args: Any, kwargs: Any) -> None:
        """Remember the storages with values that an operator without values writes into."""
        for position, argument in enumerate(func._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            is_positional = position < len(args)
            given = args[position] if is_positional else kwargs.get(argument.name)
            for tensor in _tensors((given,)):
                if not tensor.is_meta:
                    storage = tensor.untyped_storage()
                    self.hollow[storage._cdata] = storage

    def _positions(self, indices: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Indices with the positions of its ones in place of every mask that has values."""
        positions: list[Tensor | None] = []
        for index in indices:
            is_mask = index is not None and index.dtype in _MASKS
            if index is None or not is_mask or index.is_meta or self._is_hollow(index):
                positions.append(index)
            else:
                positions.extend(index.nonzero().unbind(1))
        return positions


def _tensors(arguments: Iterable[Any]) -> Iterator[Tensor]:
    for argument in arguments:
        if isinstance(argument, Tensor):
            yield argument
        elif isinstance(argument, (list, tuple)):
            yield from _tensors(argument)


def _to_meta(leaf: Any) -> Any:
    has_values = isinstance(leaf, Tensor) and not leaf.is_meta
    return torch.empty_like(leaf, device=META) if has_values else leaf
