"""A cache of shapes: what an operator gives on the meta device, where tensors have no values.

Torch computes the result of an operator there in Python, which takes up to a millisecond, and
networks repeat the same operator on the same shapes many times.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

META = torch.device("meta")

_PLAIN = (
    bool,
    int,
    float,
    complex,
    str,
    type(None),
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
)
"""What an operator may take besides tensors that a key can hold."""


class _NotCacheableError(Exception):
    """An argument that cannot be part of a key, because the result may depend on its values."""


@dataclass(frozen=True)
class ShapeCache:
    """Results of operators on the meta device, by everything that they can depend on there.

    Args:
        results: what is cached so far: operator and arguments -> descriptions of the results.
        sharing: the operators that were found to be views or to write into their arguments.

    Example:
        >>> cache = ShapeCache()
        >>> x = torch.empty(2, 3, device="meta")
        >>> cache.run(torch.ops.aten.relu.default, (x,), {}).shape
        torch.Size([2, 3])
    """

    results: dict[Any, Any] = field(default_factory=dict)
    sharing: set[Any] = field(default_factory=set)

    def run(
        self, func: Any, args: Any, kwargs: Any, kernel: Callable[..., Any] | None = None
    ) -> Any:
        """The result of an operator, from the cache if it is there; always in new tensors.

        Views, operators that write into their arguments, and those that take or give tensors with
        values are never cached.

        Args:
            func: an operator overload of torch, such as ``torch.ops.aten.relu.default``.
            args: its positional arguments.
            kwargs: its keyword arguments.
            kernel: what to call instead of ``func``, with the same arguments; None: ``func``.

        Returns:
            What ``func(*args, **kwargs)`` gives.
        """
        kernel = kernel or func
        if func in self.sharing:
            return kernel(*args, **kwargs)
        try:
            key = _call_key(func, args, kwargs)
            cached = self.results.get(key)
        except (_NotCacheableError, TypeError):  # TypeError: an argument that has no hash
            return kernel(*args, **kwargs)
        if type(cached) is _TensorDescription:  # nearly always, and a tree takes time
            return _to_tensor(cached)
        if cached is not None:
            return tree_map(_to_tensor, cached)
        result = kernel(*args, **kwargs)
        if not shares_no_memory(func):
            self.sharing.add(func)
        elif _has_no_values(result):
            self.results[key] = tree_map(_to_description, result)
        return result


@dataclass(frozen=True)
class _TensorDescription:
    """Everything that a tensor on the meta device consists of."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype


def _to_description(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return _TensorDescription(leaf.shape, leaf.stride(), leaf.dtype)
    return leaf


def _to_tensor(leaf: Any) -> Any:
    if isinstance(leaf, _TensorDescription):
        return torch.empty_strided(leaf.shape, leaf.stride, dtype=leaf.dtype, device=META)
    return leaf


def _call_key(func: Any, args: Any, kwargs: Any) -> tuple[Any, ...]:
    key = [func, *map(_key, args)]
    for name, value in kwargs.items():
        key.append((name, _key(value)))
    return tuple(key)


def _key(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        if not argument.is_meta:
            raise _NotCacheableError
        return argument.shape, argument.stride(), argument.dtype
    if isinstance(argument, (list, tuple)):
        return tuple(map(_key, argument))
    if not isinstance(argument, _PLAIN):  # an object of torch's C++ has no equality
        raise _NotCacheableError
    # With its type, because 1, 1.0 and True are equal but promote dtypes differently.
    return type(argument), argument


def _has_no_values(results: Any) -> bool:
    # ``torch.arange`` of plain numbers makes a tensor with values although no argument has any.
    return all(leaf.is_meta for leaf in tree_leaves(results) if isinstance(leaf, Tensor))


def shares_no_memory(func: Any) -> bool:
    """Whether all results of an operator are new tensors, and it writes into none.

    Its schema marks results that are views, and arguments that are written into.

    Args:
        func: an operator overload of torch.

    Returns:
        True if nothing that it gives or takes shares memory afterwards.
    """
    schema = func._schema
    return not any(value.alias_info for value in (*schema.arguments, *schema.returns))
