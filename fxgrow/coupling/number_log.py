"""The Python numbers that operators compute with, to compare those of two runs.

A model that computes with a size (``h / math.sqrt(self.fc.in_features)``), or branches on one, runs
other operators, or the same ones with other numbers, once it has grown. Sizes of views and strides
may differ; numbers that become part of values may not.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

_LAYOUT_NAMES = (
    "view _unsafe_view _reshape_alias as_strided expand t transpose permute alias detach clone"
    " contiguous unsqueeze squeeze select slice copy_ _to_copy lift_fresh empty empty_strided"
    " empty_like new_empty mm mv bmm addmm baddbmm dot add_ _local_scalar_dense"
)

_LAYOUT = {f"aten::{name}" for name in _LAYOUT_NAMES.split()}
"""Operators among which torch itself chooses by the sizes of its operands."""

_COUNTING = {"aten::arange", "aten::range"}
"""Operators whose numbers are sizes although their schema does not say so."""

_REL_TOL = 1e-6
"""Numbers that a model reads out of its values differ by rounding after growth."""


@dataclass(frozen=True)
class NumberEntry:
    """One operator of a run.

    Args:
        operator: its name.
        numbers: the Python numbers among its values.
        module: path of the module that ran it.
        node: where, as in ``Pin``; "" for all but the entry that is looked for.
    """

    operator: str
    numbers: tuple[float, ...]
    module: str
    node: str = ""

    def same(self, other: "NumberEntry | None") -> bool:
        """Whether both compute with the same numbers."""
        if other is None or self.operator != other.operator:
            return False
        if len(self.numbers) != len(other.numbers):
            return False
        return all(map(_close, self.numbers, other.numbers))


def _only_number(result: Any) -> float:
    """The number of which a tensor consists; NaN if it consists of several, or is no real one."""
    if not isinstance(result, Tensor) or not result.numel() or result.is_complex():
        return math.nan
    with _disable_current_modes():
        first = result.flatten()[0]
        return float(first) if bool((result == first).all()) else math.nan


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=_REL_TOL) or (a != a and b != b)


@dataclass
class NumberLog:
    """What a run computes with.

    Args:
        wanted: the number of the entry whose line is of interest; None: no one's.
        entries: the entries so far.
    """

    wanted: int | None = None
    entries: list[NumberEntry] = field(default_factory=list)

    def record(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], ctx: Any) -> None:
        """Add an operator.

        Args:
            func: the operator.
            args: its positional arguments.
            kwargs: its keyword arguments.
            ctx: the context of the run.
        """
        name = func._schema.name
        if name not in _LAYOUT:
            self._add(name, tuple(numbers_among_values(func, args, kwargs)), ctx)

    def record_constant(self, value: Any, ctx: Any) -> None:
        """Add a tensor that is made of Python numbers.

        Args:
            value: the numbers, alone or in lists.
            ctx: the context of the run.
        """
        self._add("torch.tensor", tuple(_numbers(value)), ctx)

    def record_result(self, func: Any, result: Any, ctx: Any) -> None:
        """Add what an operator made of constants alone, where that is one number.

        A constant of ones may follow a size, but its sum is that size (``ones(d).sum()``).

        Args:
            func: the operator.
            result: its result in numbers.
            ctx: the context of the run.
        """
        if func._schema.name not in _LAYOUT:
            numbers = tuple(map(_only_number, tree_leaves(result)))
            self._add(f"{func._schema.name}, of constants", numbers, ctx)

    def _add(self, operator: str, numbers: tuple[float, ...], ctx: Any) -> None:
        node = ""
        if len(self.entries) == self.wanted:
            ctx.operator = operator
            node = ctx.node()
        self.entries.append(NumberEntry(operator, numbers, ctx.modules[-1], node))


def first_difference(before: NumberLog, after: NumberLog) -> int | None:
    """The first entry in which two runs differ.

    Args:
        before: the log of one run.
        after: that of the other.

    Returns:
        The number of the entry; None if there is none.
    """
    for number, (old, new) in enumerate(zip_longest(before.entries, after.entries)):
        if old is None or not old.same(new):
            return number
    return None


def numbers_among_values(
    func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Iterator[float]:
    """The Python numbers that an operator computes with: not its sizes, dimensions and flags.

    Args:
        func: the operator.
        args: its positional arguments.
        kwargs: its keyword arguments.

    Yields:
        The numbers, in the order of the operator's schema.
    """
    positions, names = _value_arguments(func)
    for position in positions:
        if position < len(args):
            yield from _numbers(args[position])
    if kwargs:
        for name in names:
            if name in kwargs:
                yield from _numbers(kwargs[name])


def _numbers(argument: Any) -> Iterator[float]:
    if isinstance(argument, (int, float)) and not isinstance(argument, bool):
        yield argument
    elif isinstance(argument, (list, tuple)):
        for part in argument:
            yield from _numbers(part)


@lru_cache(maxsize=4096)
def _value_arguments(func: torch._ops.OpOverload) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The arguments that may hold numbers among values: their positions, and their names."""
    if func._schema.name in _COUNTING:
        return (), ()
    positions, names = [], []
    for position, argument in enumerate(func._schema.arguments):
        kind = str(argument.type)
        if "number" in kind or "float" in kind or "Tensor" in kind:
            names.append(argument.name)
            if not argument.kwarg_only:
                positions.append(position)
    return tuple(positions), tuple(names)
