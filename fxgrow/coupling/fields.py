"""Label fields say which neuron each element of a tensor belongs to.

A field is an int64 tensor of the value's shape. It has **stride 0 along every dimension in which it is constant**
(batch, space) and a non-zero stride along the others, so it costs O(channels) and not O(elements), and its *support*
(the dimensions along which it varies) can be read off its strides. This convention holds for dimensions of size 1
too, so a hidden layer of a single neuron is still a labelled dimension.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from fxgrow.coupling.labels import Ints

Support = tuple[int, ...]
_ALL = slice(None)
Fields = dict[Support, Tensor]


def field_support(labels: Tensor) -> Support:
    """The dimensions along which a field varies."""
    return _nonzero(labels.stride())


@lru_cache(maxsize=1 << 14)
def _nonzero(strides: tuple[int, ...]) -> Support:
    return tuple(dim for dim, stride in enumerate(strides) if stride)


def spread_field(core: Tensor, dims: Sequence[int], shape: Sequence[int]) -> Tensor:
    """The field of ``shape`` that varies as ``core`` along ``dims`` (one per dimension of ``core``, ascending)."""
    core = core.contiguous()
    strides = [0] * len(shape)
    for dim, size, stride in zip(dims, core.shape, _dense_strides(core.shape), strict=True):
        if shape[dim] == size:
            strides[dim] = stride
    return core.as_strided(tuple(shape), strides)


def _dense_strides(shape: Sequence[int]) -> list[int]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return strides[::-1]


def field_core(labels: Tensor) -> Tensor:
    """The varying part of a field: one dimension per dimension of its support."""
    dims = field_support(labels)
    if len(dims) == labels.dim():
        return labels
    index = tuple([_ALL if dim in dims else 0 for dim in range(labels.dim())])
    return (
        labels[index] if labels.numel() else labels.new_zeros([labels.shape[dim] for dim in dims])
    )


def axis_field(labels: Ints, axis: int, shape: Sequence[int]) -> Tensor:
    """The field that gives index i along ``axis`` the label ``labels[i]``."""
    return spread_field(torch.from_numpy(labels), (axis,), shape)


def place_field(labels: Tensor, dims: Sequence[int | None], shape: Sequence[int]) -> Tensor | None:
    """The same field seen in another value: dimension i goes to ``dims[i]`` of ``shape`` (None: dropped).

    Returns None when a dimension of the support is dropped, since then the field does not say what an element of
    the new value belongs to.
    """
    moved = [dims[dim] for dim in field_support(labels)]
    if any(dim is None for dim in moved):
        return None
    targets = [dim for dim in moved if dim is not None]
    order = sorted(range(len(targets)), key=targets.__getitem__)
    return spread_field(field_core(labels).permute(order), [targets[i] for i in order], shape)


def squash(labels: Tensor, keep: Sequence[int] = ()) -> Tensor:
    """A dense field with stride 0 restored along every dimension in which it is constant (but those to ``keep``)."""
    varying = [
        dim
        for dim in range(labels.dim())
        if dim in keep
        or (
            labels.size(dim) > 1
            and not torch.equal(labels, labels.narrow(dim, 0, 1).expand_as(labels))
        )
    ]
    index = tuple(slice(None) if dim in varying else 0 for dim in range(labels.dim()))
    return spread_field(labels[index], varying, labels.shape)


def by_support(fields: Iterable[Tensor]) -> Fields:
    """One field per support; of several the first wins."""
    found: Fields = {}
    for labels in fields:
        found.setdefault(field_support(labels), labels)
    found.pop((), None)
    return found


def flat_labels(labels: Tensor) -> Ints:
    """The labels of a field as a flat array, constant dimensions left out."""
    array: Ints = np.asarray(field_core(labels).reshape(-1).numpy())
    return array
