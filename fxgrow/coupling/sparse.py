"""Sparse tensors in a run: the meta device has few of their operators, so they keep their values.

A sparse tensor (an adjacency) holds no neurons. What is made of sparse tensors and known numbers
alone is computed as it is. Where one meets a value of the run it is seen as a dense one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten

_SPARSE_MAKERS = {
    "aten::_sparse_coo_tensor_with_dims_and_tensors": 2,
    "aten::_sparse_coo_tensor_unsafe": 2,
    "aten::_sparse_compressed_tensor_unsafe": 3,
    "aten::_to_sparse": None,
    "aten::_to_sparse_csr": None,
}
"""Operators that make a sparse tensor, with the place of its size (None: as the first tensor)."""

_SPARSE = {
    torch.sparse_coo,
    torch.sparse_csr,
    torch.sparse_csc,
    torch.sparse_bsr,
    torch.sparse_bsc,
}

DENSE = {aten._sparse_addmm.default: aten.addmm.default}
"""What an operator on sparse tensors computes of dense ones."""

Reals = Callable[[Tensor], Tensor | None]
"""Gives the numbers of a tensor, if they are known."""


def is_sparse(tensor: Tensor) -> bool:
    """Whether a tensor has no dense memory, whose strides could be told."""
    return tensor.layout in _SPARSE


def meets_sparse(func: Any, tensors: Sequence[Tensor]) -> bool:
    """Whether an operator takes or makes a sparse tensor."""
    return func._schema.name in _SPARSE_MAKERS or any(map(is_sparse, tensors))


def computed(func: Any, args: Any, kwargs: Any, real: Reals) -> Any:
    """The result of an operator of which all numbers are known; None if some are not.

    Args:
        func: an operator that takes or makes a sparse tensor.
        args: its positional arguments.
        kwargs: its keyword arguments.
        real: gives the numbers of its tensors.
    """
    # A sparse tensor has its values in every run.
    known = tree_map(lambda x: _known(x, real), (args, kwargs))
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    reals = [leaf for leaf in tree_leaves(known) if isinstance(leaf, Tensor)]
    if len(reals) < len(tensors):
        return None
    known_args, known_kwargs = known
    if "device" in known_kwargs:
        known_kwargs = {**known_kwargs, "device": torch.device("cpu")}
    return func(*known_args, **known_kwargs)


def _known(x: Any, real: Reals) -> Any:
    if not isinstance(x, Tensor):
        return x
    return x if is_sparse(x) else real(x)


def as_dense(arguments: Any) -> Any:
    """The arguments of an operator, with a dense tensor of the meta device for each sparse one."""
    return tree_map(_dense, arguments)


def _dense(x: Any) -> Any:
    if not isinstance(x, Tensor) or not is_sparse(x):
        return x
    return torch.empty(x.shape, dtype=x.dtype, device="meta")


def made(func: Any, args: Any) -> Tensor | None:
    """A dense tensor for a sparse one that is made of values; None for another operator."""
    name = func._schema.name
    if name not in _SPARSE_MAKERS:
        return None
    place = _SPARSE_MAKERS[name]
    values = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
    size = values[0].shape if place is None else args[place]
    return torch.empty(tuple(size), dtype=values[-1].dtype, device="meta")
