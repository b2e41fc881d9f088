"""Data in a pickle, read by a machine that knows data and nothing else.

A pickle is a program, and even one that is forbidden to call functions may ask Python's own unpickler for gigabytes, or
nest until Python's stack ends. Here the few instructions are carried out of which dictionaries, lists, tuples, numbers,
texts and arrays are made; nothing is imported or called, and no more is made than the file has bytes for.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

_MAX_OPERATIONS = 2**19
"""Instructions of a pickle; the longest one of CIFAR has some 200,000."""
MOST_REDUCES = 8
"""An array takes three: each may be as large as the file."""

_WORD = 60
"""Characters of a name in a pickle that an error repeats."""

_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
RECONSTRUCT, NDARRAY, DTYPE, ENCODE = "_reconstruct", "ndarray", "dtype", "encode"
_NAMES: Mapping[tuple[str, str], str] = MappingProxyType(
    {(module, "_reconstruct"): RECONSTRUCT for module in _ARRAY_MODULES}
    | {("numpy", "ndarray"): NDARRAY, ("numpy", "dtype"): DTYPE, ("_codecs", "encode"): ENCODE}
)
_NUMBERS = frozenset({"u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"})


@dataclass(frozen=True)
class Named:
    """An object that a pickle names, known here by its short name."""

    name: str


@dataclass(eq=False)
class Dtype:
    """The type of an array's numbers."""

    code: str


@dataclass(eq=False)
class Array:
    """An array, empty until it is told what it holds."""

    values: np.ndarray[Any, Any] | None = None


class NotData(Exception):  # noqa: N818 - it says what the pickle is
    """A pickle that is broken, or more than data."""


def unpickle_data(data: bytes) -> Any:
    """The data in a pickle: arrays are ``Array``, at the top or in a dictionary. Raises ``NotData`` with the reason."""
    machine = _Machine(len(data))
    try:
        for number, (code, argument, _) in enumerate(pickletools.genops(data)):
            if number == _MAX_OPERATIONS:
                raise NotData(f"it has more than {_MAX_OPERATIONS} instructions")
            if code.name == "STOP":
                return machine.pop()
            if code.name not in INSTRUCTIONS:
                raise NotData(f"it is more than data: {code.name}")
            INSTRUCTIONS[code.name](machine, argument)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise NotData(str(error)) from error
    raise NotData("it has no end")


class _Machine:
    """A stack of values, the places that are marked in it, and what was put aside."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.reduced = 0

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise NotData("it takes a value that is not there")
        return self.stack.pop()

    def mark(self, _: object) -> None:
        self.marks.append(len(self.stack))

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def top(self, kind: type) -> Any:
        value = self.stack[-1]
        if type(value) is not kind:
            raise NotData(f"it fills a {type(value).__name__} as if it were a {kind.__name__}")
        return value

    def tuple_of(self, count: int) -> None:
        self.push(tuple(reversed([self.pop() for _ in range(count)])))

    def append(self, _: object) -> None:
        value = self.pop()
        self.top(list).append(value)

    def appends(self, _: object) -> None:
        values = self.since_mark()
        self.top(list).extend(values)

    def set_items(self, items: list[Any]) -> None:
        target = self.top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | bytes):
                raise NotData("a key is no text")
            target[key] = value

    def set_item(self, _: object) -> None:
        self.set_items([self.pop(), self.pop()][::-1])

    def remember(self, number: int) -> None:
        self.memo[number] = self.stack[-1]

    def memoize(self, _: object) -> None:
        self.remember(len(self.memo))

    def recall(self, number: int) -> None:
        self.push(self.memo[number])

    def named(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise NotData("it asks for an object without a name")
        if (module, name) not in _NAMES:
            raise NotData(f"it asks for {module[:_WORD]}.{name[:_WORD]}")
        self.push(Named(_NAMES[module, name]))

    def global_name(self, argument: str) -> None:
        self.named(*argument.split(" ", 1))

    def stack_global(self, _: object) -> None:
        module, name = [self.pop(), self.pop()][::-1]
        self.named(module, name)

    def reduce(self, _: object) -> None:
        """A call, of which there are three: an empty array, a type, and text turned into bytes."""
        self.reduced += 1
        if self.reduced > MOST_REDUCES:
            raise NotData(f"it makes more than {MOST_REDUCES} objects")
        arguments, called = self.pop(), self.pop()
        name = called.name if type(called) is Named else ""
        if name not in CALLS or type(arguments) is not tuple:
            raise NotData("it calls what is no function of an array")
        self.push(CALLS[name](*arguments))

    def build(self, _: object) -> None:
        state = self.pop()
        made = self.stack[-1]
        if type(made) is Dtype:
            # Version, byte order, and what only structured types have.
            if state[1] not in ("|", "<", "="):
                raise NotData("its numbers are in another byte order")
        elif type(made) is Array and made.values is None:
            made.values = _values(*state)
        else:
            raise NotData("it fills what is no empty array")


def _empty(kind: Any, shape: Any, code: Any) -> Array:
    if kind != Named(NDARRAY) or shape != (0,) or code not in ("b", b"b"):
        raise NotData("it makes an array otherwise than arrays are saved")
    return Array()


def _dtype(code: Any, *_: object) -> Dtype:
    if not isinstance(code, str | bytes):
        raise NotData("a type has no name")
    word = code.decode("latin-1") if isinstance(code, bytes) else code
    if word not in _NUMBERS:
        raise NotData(f"an array holds {word[:_WORD]!r}")
    return Dtype(word)


def _encoded(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise NotData("it encodes what is no bytes")
    return text.encode("latin-1")


def _values(_: object, shape: Any, kind: Any, fortran: Any, raw: Any) -> np.ndarray[Any, Any]:
    """The array of that shape, if the bytes are there for it."""
    if type(kind) is not Dtype or not isinstance(raw, str | bytes) or type(shape) is not tuple:
        raise NotData("an array is no numbers")
    held = raw.encode("latin-1") if isinstance(raw, str) else raw
    numbers = np.frombuffer(held, np.dtype(kind.code))
    if not all(type(side) is int and side >= 0 for side in shape):
        raise NotData("the sides of an array are no numbers")
    return numbers.reshape(shape, order="F" if fortran else "C")


CALLS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {RECONSTRUCT: _empty, DTYPE: _dtype, ENCODE: _encoded}
)

Instruction = Callable[[_Machine, Any], object]
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = (
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
)  # fmt: skip


def _constant(value: object) -> Instruction:
    return lambda machine, _: machine.push(value)


def _nothing(_: _Machine, __: object) -> None:
    """How the pickle is written, not what."""


def _some(count: int) -> Instruction:
    return lambda machine, _: machine.tuple_of(count)


INSTRUCTIONS: Mapping[str, Instruction] = MappingProxyType(
    {name: _constant(value) for name, value in _CONSTANTS.items()}
    | dict.fromkeys(_VALUES, _Machine.push)
    | dict.fromkeys(("PROTO", "FRAME"), _nothing)
    | dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.remember)
    | dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.recall)
    | {f"TUPLE{count}": _some(count) for count in (1, 2, 3)}
    | {
        "EMPTY_DICT": lambda machine, _: machine.push({}),
        "EMPTY_LIST": lambda machine, _: machine.push([]),
        "EMPTY_TUPLE": lambda machine, _: machine.push(()),
        "MARK": _Machine.mark,
        "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
        "APPEND": _Machine.append,
        "APPENDS": _Machine.appends,
        "SETITEM": _Machine.set_item,
        "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
        "MEMOIZE": _Machine.memoize,
        "GLOBAL": _Machine.global_name,
        "STACK_GLOBAL": _Machine.stack_global,
        "REDUCE": _Machine.reduce,
        "BUILD": _Machine.build,
    }
)
