"""What the model's own code does with the sizes of dimensions that hold neurons."""

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fxgrow.coupling.context import Context
from fxgrow.coupling.fields import flat_labels, unobserved
from fxgrow.coupling.labels import FIXED, Ints
from fxgrow.coupling.number_log import numbers_among_values
from fxgrow.coupling.size_numbers import (
    TRACKED,
    Comparison,
    SizeFloat,
    SizeNumber,
    SizeUse,
    Tracked,
    axis_sizes,
    is_remainder,
    is_rounded,
    plain,
    size_number,
)

SIZE_VALUE = "its size is used as a number among values, so one more neuron changes the result"
SIZE_LENGTH = "its size is read by len(), which cannot be followed"
SIZE_KEY = "the model's own code looks something up by its size"
UNEVEN_CHUNKS = "the number of chunks does not divide it, so with more neurons there are more parts"

_SHAPE = Tensor.shape.__get__  # type: ignore[attr-defined]
_COUNTS = (Tensor.numel, Tensor.nelement, torch.numel)
_MAKE_VALUES = (
    torch.tensor,
    torch.as_tensor,
    torch.asarray,
    torch.scalar_tensor,
    Tensor.new_tensor,
)
"""Functions whose numbers are values, which no operator tells: tensors are made before."""

_CHUNKS = (torch.chunk, Tensor.chunk, torch.tensor_split, Tensor.tensor_split)


class SizeReads(TorchFunctionMode):
    """Gives out the sizes of dimensions with neurons as numbers that can be followed.

    Args:
        ctx: the context of the run, which is told of every use.
    """

    def __init__(self, ctx: Context) -> None:
        super().__init__()
        self.ctx = ctx
        self.is_open = True
        self.reads: dict[Any, Callable[..., Any]] = {
            _SHAPE: self._shape,
            Tensor.size: self._size,
            Tensor.__len__: self._length,
            **dict.fromkeys(_COUNTS, self._count),
        }

    def __exit__(self, *exception: Any) -> None:
        self.is_open = False  # numbers that a cache keeps are no longer followed
        super().__exit__(*exception)  # type: ignore[no-untyped-call]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        read = self.reads.get(func)
        if read is not None:
            return read(func, args, kwargs)
        tracked = list(_tracked((*args, *kwargs.values())))
        if tracked:
            return self._passing(tracked, func, args, kwargs)
        result = func(*args, **kwargs)
        if func in _CHUNKS:
            self._check_chunks(args, kwargs, result)
        return result

    def _passing(self, tracked: Sequence[Tracked], func: Any, args: Any, kwargs: Any) -> Any:
        """Call a function with numbers that come from sizes."""
        name = getattr(func, "__name__", str(func))
        for number in tracked:
            if isinstance(number, SizeFloat) or func in _MAKE_VALUES:
                self.escaped(number, name)
            elif is_rounded(number):
                self._record_use(name, size=number)
        before, self.ctx.size_arguments = self.ctx.size_arguments, tuple(tracked)
        try:
            return func(*args, **kwargs)
        finally:
            self.ctx.size_arguments = before

    def compared(self, comparison: Comparison) -> None:
        """Write down a branch, unless only a trial can tell how it comes out."""
        if self.is_open and not _holds_with_a_constant(comparison):
            self._record_use("a comparison of sizes", comparison)

    def _record_use(
        self, what: str, comparison: Comparison | None = None, size: Tracked | None = None
    ) -> None:
        # A graph holds the numbers that attributes had; the model, which runs too, reads these.
        if self.ctx.followed and self.ctx.graph_node:
            return
        use = SizeUse(self._node(what), self.ctx.modules[-1], comparison, size)
        self.ctx.size_log.uses.append(use)

    def escaped(self, number: Tracked, where: str) -> None:
        """Refuse the neurons whose number enters values."""
        if self.is_open:
            self.ctx.operator = where
            for labels in axis_sizes(number):
                self.ctx.pin(labels, "size-value", SIZE_VALUE)

    def looked_up(self, number: SizeNumber) -> None:
        """Refuse the neurons whose number is a key: for another one the table may differ."""
        if self.is_open:
            self.ctx.operator = "a lookup by size"
            for labels in axis_sizes(number):
                self.ctx.pin(labels, "size-branch", SIZE_KEY)

    def _node(self, what: str) -> str:
        self.ctx.operator = what
        return self.ctx.node()

    def _axis(self, x: Tensor, dim: int) -> Ints | None:
        """The labels along a dimension; None if it holds no neurons."""
        field = self.ctx.fields(x).get((dim,))
        if field is None:
            return None
        with unobserved():
            labels = flat_labels(field)
        return labels if (labels != FIXED).any() else None

    def _number(self, x: Tensor, dim: int, size: int) -> int:
        labels = self._axis(x, dim)
        if labels is None or len(labels) != size:
            return size
        self.ctx.size_log.reads.append((self.ctx.modules[-1], labels))
        return size_number(size, labels, self)

    def _shape(self, func: Any, args: Any, kwargs: Any) -> Any:
        x = args[0]
        shape = func(*args, **kwargs)
        if not self.ctx.fields(x):
            return shape
        return torch.Size([self._number(x, dim, size) for dim, size in enumerate(shape)])

    def _size(self, func: Any, args: Any, kwargs: Any) -> Any:
        result = func(*args, **kwargs)
        x = args[0]
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if not self.ctx.fields(x) or not (dim is None or isinstance(dim, int)):
            return result
        if dim is None:
            return torch.Size([self._number(x, d, size) for d, size in enumerate(result)])
        return self._number(x, dim % x.dim(), result)

    def _count(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The number of elements: the product of all sizes."""
        count = func(*args, **kwargs)
        if args and self.ctx.fields(args[0]):
            sizes = [self._number(args[0], d, size) for d, size in enumerate(args[0].shape)]
            count = sizes[0]
            for size in sizes[1:]:
                count = count * size
        return count

    def _length(self, func: Any, args: Any, kwargs: Any) -> Any:
        labels = self._axis(args[0], 0)
        if labels is not None:
            self.ctx.operator = "len"
            self.ctx.pin(labels, "size-value", SIZE_LENGTH)
        return func(*args, **kwargs)

    def _check_chunks(self, args: Any, kwargs: Any, parts: Sequence[Tensor]) -> None:
        x = kwargs.get("input", args[0] if args else None)
        chunks = args[1] if len(args) > 1 else kwargs.get("chunks", kwargs.get("sections"))
        dim = kwargs.get("dim", args[2] if len(args) > 2 else 0)
        if not isinstance(x, Tensor) or not isinstance(chunks, int):
            return
        # Parts of ceil(size / chunks): where that is uneven, one more neuron moves all borders.
        if len(parts) == chunks and x.shape[dim] % chunks == 0:
            return
        labels = self._axis(x, dim % x.dim())
        if labels is not None:
            self.ctx.operator = "chunk"
            self.ctx.pin(labels, "sliced", UNEVEN_CHUNKS)


def refuse_values(ctx: Context, func: Any, args: Sequence[Any], kwargs: Any) -> None:
    """Refuse the neurons whose number an operator computes with.

    Args:
        ctx: the context of the run; it knows the numbers of the function that is running.
        func: the operator.
        args: its positional arguments.
        kwargs: its keyword arguments.
    """
    values = set(numbers_among_values(func, args, kwargs))
    for number in ctx.size_arguments:
        if plain(number) in values:
            ctx.operator = str(func)
            for labels in axis_sizes(number):
                ctx.pin(labels, "size-value", SIZE_VALUE)


def _tracked(arguments: Sequence[Any]) -> Iterator[Tracked]:
    """The numbers that come from sizes, those in lists and shapes included."""
    for argument in arguments:
        if isinstance(argument, TRACKED):
            yield argument
        elif isinstance(argument, (list, tuple)):
            yield from _tracked(argument)


def _holds_with_a_constant(comparison: Comparison) -> bool:
    """Whether a size equals a constant: the constant may follow it, which the trial growth tells.

    A larger size differs from a constant that does not follow, whatever the size, so the trial
    speaks for all. That is not so of a remainder.
    """
    if comparison.operation not in (operator.eq, operator.ne):
        return False
    sides = comparison.left, comparison.right
    if all(isinstance(side, TRACKED) for side in sides) or any(map(is_remainder, sides)):
        return False
    return bool(plain(comparison.left) == plain(comparison.right))
