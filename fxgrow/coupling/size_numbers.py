"""Python numbers that remember which sizes they were computed from.

While a model is observed, the size of a dimension that holds neurons is a ``SizeNumber``: an
``int`` like any other for the model's own code, whose sums, products and quotients are again such
numbers. So it is known what a number would be if the neurons grew, and what is done with it: it
may be a size of a view; as a number among values, or as the reason of a branch, it changes what
the model computes.

C code (``math.sqrt``, ``numpy``) sees plain numbers. Where that happens unseen, the trial growth
compares the numbers of both runs (see ``number_log``).
"""

import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from fxgrow.coupling.labels import Ints

Number = int | float
SizeOf = Callable[[Ints], int]
"""The size of a dimension whose indices have these labels."""

_MAX_DEPTH = 100
"""How many operations deep a number is followed: a sum in a long loop ends as a plain number."""


@dataclass(frozen=True, eq=False)
class AxisSize:
    """The size of a dimension with these labels."""

    labels: Ints
    depth: int = 0


@dataclass(frozen=True, eq=False)
class Computed:
    """The result of an operation on numbers, some of which come from sizes."""

    operation: Callable[..., Any]
    operands: tuple[Any, ...]
    depth: int


Term = AxisSize | Computed


class SizeWatcher(Protocol):
    """Is told what is done with numbers that come from sizes."""

    def compared(self, comparison: "Comparison") -> None:
        """Two numbers were compared."""

    def escaped(self, number: "SizeNumber | SizeFloat", where: str) -> None:
        """A number goes where it cannot be followed."""

    def looked_up(self, number: "SizeNumber") -> None:
        """A number is a key of a table."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """A comparison of two numbers.

    Args:
        operation: the operator.
        left: the left number.
        right: the right one.
    """

    operation: Callable[[Any, Any], bool]
    left: Any
    right: Any

    @property
    def outcome(self) -> bool:
        """How it came out."""
        return self.operation(plain(self.left), plain(self.right))

    def outcome_for(self, size_of: SizeOf) -> bool:
        """How it would come out for other sizes."""
        return self.operation(value_for(self.left, size_of), value_for(self.right, size_of))


class SizeNumber(int):
    """An integer that was computed from sizes."""

    term: Term
    watcher: SizeWatcher

    def __hash__(self) -> int:
        self.watcher.looked_up(self)
        return int.__hash__(self)

    def __bool__(self) -> bool:
        self.watcher.compared(Comparison(operator.ne, self, 0))
        return int.__bool__(self)

    def __float__(self) -> float:
        self.watcher.escaped(self, "float()")
        return float(plain(self))

    def __reduce__(self) -> Any:
        return int, (plain(self),)


class SizeFloat(float):
    """A number that was computed from sizes, and is none."""

    term: Term
    watcher: SizeWatcher

    def __hash__(self) -> int:
        return float.__hash__(self)

    def __reduce__(self) -> Any:
        return float, (plain(self),)


Tracked = SizeNumber | SizeFloat
TRACKED = (SizeNumber, SizeFloat)


def size_number(size: int, labels: Ints, watcher: SizeWatcher) -> SizeNumber:
    """The size of a dimension as a number that can be followed.

    Args:
        size: the size.
        labels: the labels along the dimension.
        watcher: is told what is done with the number.

    Returns:
        An integer that equals ``size``.
    """
    number = SizeNumber(size)
    number.term, number.watcher = AxisSize(labels), watcher
    return number


def plain(number: Any) -> Any:
    """The number itself, as Python's own ``int`` or ``float``."""
    # Not ``int(number)``: that would be seen as the model's own doing.
    if isinstance(number, SizeNumber):
        return int.__int__(number)
    return float.__float__(number) if isinstance(number, SizeFloat) else number


def value_for(number: Any, size_of: SizeOf) -> Any:
    """What a number would be for other sizes.

    Args:
        number: a number that may have been computed from sizes.
        size_of: the sizes.

    Returns:
        A plain number.
    """
    return _term_value(number.term, size_of) if isinstance(number, TRACKED) else number


def _term_value(term: Term, size_of: SizeOf) -> Any:
    # A leaf of the term is a size; everything else is computed from its operands.
    if isinstance(term, AxisSize):
        return size_of(term.labels)
    operands = [value_for(operand, size_of) for operand in term.operands]
    return term.operation(*operands)


def axis_sizes(number: Any) -> Iterator[Ints]:
    """The labels of the dimensions whose sizes a number was computed from."""
    if isinstance(number, TRACKED):
        if isinstance(number.term, AxisSize):
            yield number.term.labels
        else:
            for operand in number.term.operands:
                yield from axis_sizes(operand)


def is_rounded(number: Any) -> bool:
    """Whether a remainder, a quotient without one, or rounding was taken on the way."""
    if not isinstance(number, TRACKED) or isinstance(number.term, AxisSize):
        return False
    term = number.term
    return term.operation in _ROUNDING or any(map(is_rounded, term.operands))


def is_remainder(number: Any) -> bool:
    """Whether a number is the remainder of a division."""
    if not isinstance(number, TRACKED) or isinstance(number.term, AxisSize):
        return False
    return number.term.operation is operator.mod


def _computed(operation: Callable[..., Any], *operands: Any) -> Any:
    """The result of an operation, which is followed if it is a number."""
    # With plain numbers, else every operation would call itself.
    values = [plain(operand) for operand in operands]
    if not all(isinstance(value, (int, float)) for value in values):
        return NotImplemented
    result = operation(*values)
    tracked = [operand for operand in operands if isinstance(operand, TRACKED)]
    # A counter that is added to in a loop would grow a term without end.
    depth = 1 + max(operand.term.depth for operand in tracked)
    if depth > _MAX_DEPTH or isinstance(result, bool) or not isinstance(result, (int, float)):
        return result
    number: Tracked = SizeNumber(result) if isinstance(result, int) else SizeFloat(result)
    number.term, number.watcher = Computed(operation, operands, depth), tracked[0].watcher
    return number


def _compared(operation: Callable[[Any, Any], bool], left: Any, right: Any) -> Any:
    if not isinstance(right, (int, float)):
        return NotImplemented
    # Told before it comes out: the outcome for other sizes is asked for later.
    comparison = Comparison(operation, left, right)
    left.watcher.compared(comparison)
    return comparison.outcome


_BINARY_NAMES = "add sub mul floordiv truediv mod pow lshift rshift and_ or_ xor"
_UNARY: dict[str, Callable[..., Any]] = {
    "neg": operator.neg,
    "pos": operator.pos,
    "abs": abs,
    "invert": operator.invert,
    "round": round,
    "ceil": math.ceil,
    "floor": math.floor,
    "trunc": math.trunc,
}
_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
_ROUNDING: set[Callable[..., Any]] = {operator.floordiv, operator.mod, operator.rshift}
_ROUNDING |= {operator.and_, round, math.ceil, math.floor, math.trunc}


def _define_operators() -> None:
    """Give both classes the operators of numbers."""
    for kind in TRACKED:
        for name in _BINARY_NAMES.split():
            _define_binary(kind, name.rstrip("_"), getattr(operator, name))
        for name, operation in _UNARY.items():
            if hasattr(kind, f"__{name}__"):
                _define(kind, name, lambda a, *b, op=operation: _computed(op, a, *b))
        for name in _COMPARISONS:
            operation = getattr(operator, name)
            _define(kind, name, lambda a, b, op=operation: _compared(op, a, b))
        _define(kind, "divmod", lambda a, b: (a // b, a % b))
        _define(kind, "rdivmod", lambda a, b: (b // a, b % a))


def _define_binary(kind: type, name: str, operation: Callable[..., Any]) -> None:
    if hasattr(kind, f"__{name}__"):
        _define(kind, name, lambda a, b, *_: _computed(operation, a, b))
        _define(kind, f"r{name}", lambda a, b, *_: _computed(operation, b, a))


def _define(kind: type, name: str, method: Callable[..., Any]) -> None:
    setattr(kind, f"__{name}__", method)


_define_operators()


@dataclass(frozen=True, eq=False)
class SizeAttributeGuess:
    """An integer in a module that may be the number of the labels ``labels``.

    ``module``, ``name``, ``keys``: as in ``widths.SizeAttribute``.
    """

    module: str
    name: str
    keys: tuple[int | str, ...]
    labels: Ints


@dataclass(frozen=True, eq=False)
class SizeUse:
    """A number from sizes that decides on something: a branch, or the shape of a value.

    Args:
        node: where, as in ``Pin``.
        module: path of the module that does it.
        comparison: the branch; None for a size.
        size: the size; None for a branch.
    """

    node: str
    module: str
    comparison: Comparison | None = None
    size: Any = None

    @property
    def is_rounded(self) -> bool:
        """Whether a part of a size was rounded on the way."""
        if self.comparison is None:
            return is_rounded(self.size)
        return is_rounded(self.comparison.left) or is_rounded(self.comparison.right)

    def axis_sizes(self) -> Iterator[Ints]:
        """The labels of all dimensions that it depends on."""
        if self.comparison is not None:
            yield from axis_sizes(self.comparison.left)
            yield from axis_sizes(self.comparison.right)
        yield from axis_sizes(self.size)


@dataclass
class SizeLog:
    """What was done with numbers that come from sizes.

    Args:
        uses: branches and sizes.
        reads: by path of the module, the labels of the dimensions whose size it read.
    """

    uses: list[SizeUse] = field(default_factory=list)
    reads: list[tuple[str, Ints]] = field(default_factory=list)
