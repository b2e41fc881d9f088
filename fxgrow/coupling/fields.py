"""Label fields: which neuron each element of a tensor belongs to.

A field is an int64 tensor of the value's shape. It has **stride 0 along every dimension in which it
is constant** (batch, space) and a non-zero stride along the others, so it costs O(channels) and not
O(elements), and its *support* (the dimensions along which it varies) can be read off its strides.
This convention holds for dimensions of size 1 too, so a hidden layer of a single neuron is still a
labeled dimension.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from fxgrow.coupling.labels import Ints

Support = tuple[int, ...]
Fields = dict[Support, Tensor]
Index = tuple[int | slice, ...]

_ALL = slice(None)


@contextmanager
def unobserved() -> Iterator[None]:
    """Label fields are tensors too: what is done with them in a run is not to be observed.

    Cheaper than to take all modes off and put them back, which is done for every size that is read.
    """
    with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
        yield


def field_support(labels: Tensor) -> Support:
    """The dimensions along which a field varies."""
    return _nonzero(labels.stride())


# A model has few kinds of fields and asks for their supports very often.
@lru_cache(maxsize=1 << 14)
def _nonzero(strides: tuple[int, ...]) -> Support:
    return tuple(dim for dim, stride in enumerate(strides) if stride)


@lru_cache(maxsize=1 << 14)
def select_dims(dims: tuple[int, ...], rank: int) -> Index:
    """The index that keeps the dimensions ``dims`` of a tensor, and element 0 of the others."""
    index: list[int | slice] = [0] * rank
    for dim in dims:
        index[dim] = _ALL
    return tuple(index)


def spread_field(core: Tensor, dims: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Spread labels over a value: the field that varies as ``core`` along ``dims``.

    Args:
        core: the labels, one dimension per entry of ``dims``.
        dims: the dimensions of the value along which they vary, ascending.
        shape: the shape of the value.

    Returns:
        The field, of shape ``shape`` and stride 0 along all other dimensions.
    """
    core = core.contiguous()
    strides = [0] * len(shape)
    for dim, size, stride in zip(dims, core.shape, _dense_strides(core.shape), strict=True):
        if shape[dim] == size:
            strides[dim] = stride
    return core.as_strided(tuple(shape), strides)


def _dense_strides(shape: Sequence[int]) -> list[int]:
    """The strides of a contiguous tensor; torch's own are arbitrary where a size is 1."""
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
    return core_along(labels, dims)  # along the others all elements are equal


def core_along(labels: Tensor, dims: Support) -> Tensor:
    """The labels of a field along some dimensions, the support among them.

    A value without elements (of an expert that gets no tokens) has neurons all the same: they lie
    in the memory of its field.
    """
    if labels.numel():
        return labels[select_dims(dims, labels.dim())]
    shape = [labels.shape[dim] for dim in dims]
    strides = [labels.stride(dim) for dim in dims]
    last = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if 0 in shape or labels.storage_offset() + last >= labels.untyped_storage().nbytes() // 8:
        return labels.new_zeros(shape)
    return labels.as_strided(shape, strides)


def axis_field(labels: Ints, axis: int, shape: Sequence[int]) -> Tensor:
    """The field that gives index i along ``axis`` the label ``labels[i]``."""
    return spread_field(torch.from_numpy(labels), (axis,), shape)


def place_field(labels: Tensor, dims: Sequence[int | None], shape: Sequence[int]) -> Tensor | None:
    """See a field in another value.

    Args:
        labels: the field.
        dims: dimension i of the field goes to dimension ``dims[i]`` of the value (None: dropped).
        shape: the shape of the value.

    Returns:
        The field of the value; None when a dimension of the support is dropped, since then the
        field does not determine what an element of the value belongs to.
    """
    targets = []
    for dim in field_support(labels):
        target = dims[dim]
        if target is None:
            return None
        targets.append(target)
    # The dimensions of the core in the order in which they lie in the value.
    order = sorted(range(len(targets)), key=targets.__getitem__)
    core = field_core(labels).permute(order)
    return spread_field(core, sorted(targets), shape)


def squash(labels: Tensor, keep: Sequence[int] = ()) -> Tensor:
    """Restore stride 0 in a dense field along every dimension in which it is constant.

    Args:
        labels: a field with any strides.
        keep: dimensions that count as varying in any case.

    Returns:
        The same labels as a field.
    """
    varying = []
    for dim in range(labels.dim()):
        if dim in keep or _varies(labels, dim):
            varying.append(dim)
    core = labels[select_dims(tuple(varying), labels.dim())]
    return spread_field(core, varying, labels.shape)


def _varies(labels: Tensor, dim: int) -> bool:
    if labels.size(dim) < 2:
        return False
    first = labels.narrow(dim, 0, 1)
    return not torch.equal(labels, first.expand_as(labels))


def by_support(fields: Iterable[Tensor]) -> Fields:
    """One field per support; of several the first wins."""
    result: Fields = {}
    for labels in fields:
        result.setdefault(field_support(labels), labels)
    result.pop((), None)  # a field that varies nowhere holds no neurons
    return result


def lines_speak_for(fields: Fields, support: Support) -> bool:
    """Whether a field is that of a grid whose lines have fields of their own along each dimension.

    What happens along one dimension is then said by the lines along it: a grid of channels and
    positions in space can grow in channels although its positions are fixed.

    Args:
        fields: all fields of a value.
        support: that of the field in question.

    Returns:
        False for the field of a single dimension.
    """
    return len(support) > 1 and all((dim,) in fields for dim in support)


def flat_labels(labels: Tensor) -> Ints:
    """The labels of a field as a flat array, constant dimensions left out."""
    array: Ints = np.asarray(field_core(labels).reshape(-1).numpy())
    return array
