"""The meta device, where tensors have shapes and no values: what an operator gives there is worked out once.

Torch does so in Python, which takes up to a millisecond for one operator, and networks repeat theirs many times.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

META = torch.device("meta")


class _UnknownError(Exception):
    """An argument by which a result cannot be remembered."""


@dataclass(frozen=True)
class ShapeCache:
    """What operators gave on the meta device, by everything that their results can depend on there."""

    results: dict[Any, Any] = field(default_factory=dict)

    def run(
        self, func: Any, args: Any, kwargs: Any, kernel: Callable[..., Any] | None = None
    ) -> Any:
        """``func(*args, **kwargs)``, or what ``kernel`` gives in its stead; fresh tensors in any case.

        Views, operators that write into their arguments and what gives or takes tensors with values always run.
        """
        kernel = kernel or func
        try:
            key = (func, *map(_key, args), *((name, _key(value)) for name, value in kwargs.items()))
            known = self.results.get(key)
        except (_UnknownError, TypeError):  # TypeError: something that has no hash
            return kernel(*args, **kwargs)
        if known is None:
            known = kernel(*args, **kwargs)
            if _fresh(func) and _bare(known):
                self.results[key] = tree_map(_form, known)
            return known
        return tree_map(_made, known)


@dataclass(frozen=True)
class _Form:
    """All that there is of a tensor on the meta device."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype


def _form(x: Any) -> Any:
    return _Form(x.shape, x.stride(), x.dtype) if isinstance(x, Tensor) else x


def _made(x: Any) -> Any:
    return (
        torch.empty_strided(x.shape, x.stride, dtype=x.dtype, device=META)
        if isinstance(x, _Form)
        else x
    )


def _key(x: Any) -> Any:
    if isinstance(x, Tensor):
        if not x.is_meta:
            raise _UnknownError
        return x.shape, x.stride(), x.dtype
    if isinstance(x, (list, tuple)):
        return tuple(map(_key, x))
    return type(x), x  # 1, 1.0 and True are equal


def _bare(results: Any) -> bool:
    """Whether no tensor among them has values (``torch.arange`` of numbers alone makes one that has)."""
    return all(one.is_meta for one in tree_leaves(results) if isinstance(one, Tensor))


def _fresh(func: Any) -> bool:
    """Whether an operator's results share no memory with its arguments."""
    schema = func._schema
    return not any(one.alias_info for one in (*schema.arguments, *schema.returns))
