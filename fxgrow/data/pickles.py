"""Read the data in a pickle with an interpreter that cannot do anything but build data.

A pickle is a program. Even one that is forbidden to call functions may ask Python's own unpickler
for gigabytes, or nest until Python's stack ends. This interpreter knows only the instructions that
build dictionaries, lists, tuples, numbers, texts and arrays. It imports and calls nothing, and it
builds no more than the file has bytes for.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

# Instructions in a pickle; the longest one of CIFAR has about 200,000.
_MAX_OPERATIONS = 2**19
MAX_REDUCES = 8
"""Calls in a pickle. An array takes three, and each result may be as large as the file."""

# Characters of a name in a pickle that an error repeats.
_MAX_WORD = 60

RECONSTRUCT, NDARRAY, DTYPE, ENCODE = "_reconstruct", "ndarray", "dtype", "encode"
# The only (module, name) pairs that a pickle may name; numpy 2 has renamed its module.
_NAMES: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("numpy.core.multiarray", "_reconstruct"): RECONSTRUCT,
        ("numpy._core.multiarray", "_reconstruct"): RECONSTRUCT,
        ("numpy", "ndarray"): NDARRAY,
        ("numpy", "dtype"): DTYPE,
        ("_codecs", "encode"): ENCODE,
    }
)
_DTYPES = frozenset({"u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"})


@dataclass(frozen=True)
class NamedObject:
    """An object that a pickle refers to by module and name, known here by its short name."""

    name: str


@dataclass(eq=False)
class Dtype:
    """The number type of an array."""

    code: str


@dataclass(eq=False)
class Array:
    """An array; ``values`` is None until the pickle has filled it."""

    values: np.ndarray[Any, Any] | None = None


class NotDataError(Exception):
    """A pickle that is broken, or that holds more than data."""


def unpickle_data(data: bytes) -> Any:
    """Return the data in a pickle; arrays, at the top or inside, come as ``Array``.

    Raises:
        NotDataError: with the reason.
    """
    interpreter = _Interpreter()
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if number == _MAX_OPERATIONS:
                raise NotDataError(f"it has more than {_MAX_OPERATIONS} instructions")
            if opcode.name == "STOP":
                return interpreter.pop()
            if opcode.name not in INSTRUCTIONS:
                raise NotDataError(f"it is more than data: {opcode.name}")
            INSTRUCTIONS[opcode.name](interpreter, argument)
    # What pickletools and the instructions below raise for malformed input.
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise NotDataError(str(error)) from error
    raise NotDataError("it has no end")


class _Interpreter:
    """The state of a pickle program: a stack of values, marks in that stack, and a memo.

    A method per instruction; those that take no argument get the None of ``pickletools``.
    """

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []  # stack heights
        self.memo: dict[int, Any] = {}
        self.reduces = 0

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        # Values below the last mark belong to the container that is being built.
        bottom = self.marks[-1] if self.marks else 0
        if len(self.stack) <= bottom:
            raise NotDataError("it takes a value that is not there")
        return self.stack.pop()

    def mark(self, _: object) -> None:
        self.marks.append(len(self.stack))

    def pop_to_mark(self) -> list[Any]:
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def top(self, kind: type) -> Any:
        """Return the value on top of the stack, which must be of exactly this type."""
        value = self.stack[-1]
        if type(value) is not kind:
            raise NotDataError(f"it fills a {type(value).__name__} as if it were a {kind.__name__}")
        return value

    def build_tuple(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    def append(self, _: object) -> None:
        value = self.pop()
        self.top(list).append(value)

    def appends(self, _: object) -> None:
        values = self.pop_to_mark()
        self.top(list).extend(values)

    def set_items(self, items: list[Any]) -> None:
        """Put alternating keys and values into the dictionary on top of the stack."""
        target = self.top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Other keys could be unhashable, or equal to each other without being the same.
            if not isinstance(key, str | bytes):
                raise NotDataError("a key is no text")
            target[key] = value

    def set_item(self, _: object) -> None:
        value = self.pop()
        key = self.pop()
        self.set_items([key, value])

    def put_memo(self, number: int) -> None:
        self.memo[number] = self.stack[-1]

    def memoize(self, _: object) -> None:
        self.put_memo(len(self.memo))

    def get_memo(self, number: int) -> None:
        self.push(self.memo[number])

    def push_named(self, module: Any, name: Any) -> None:
        """Push one of the few objects that may be named; nothing is imported."""
        if not (isinstance(module, str) and isinstance(name, str)):
            raise NotDataError("it asks for an object without a name")
        if (module, name) not in _NAMES:
            raise NotDataError(f"it asks for {module[:_MAX_WORD]}.{name[:_MAX_WORD]}")
        self.push(NamedObject(_NAMES[module, name]))

    def global_name(self, argument: str) -> None:
        self.push_named(*argument.split(" ", 1))

    def stack_global(self, _: object) -> None:
        name = self.pop()
        module = self.pop()
        self.push_named(module, name)

    def reduce(self, _: object) -> None:
        """A call; only three exist: an empty array, a number type, and text turned into bytes."""
        self.reduces += 1
        if self.reduces > MAX_REDUCES:
            raise NotDataError(f"it makes more than {MAX_REDUCES} objects")
        arguments = self.pop()
        function = self.pop()
        name = function.name if type(function) is NamedObject else ""
        if name not in CALLS or type(arguments) is not tuple:
            raise NotDataError("it calls what is no function of an array")
        self.push(CALLS[name](*arguments))

    def build(self, _: object) -> None:
        """Give an object on the stack its state: the byte order of a type, an array's content."""
        state = self.pop()
        target = self.stack[-1]
        if type(target) is Dtype:
            # The state of a dtype: version, byte order, and fields of structured types.
            if state[1] not in ("|", "<", "="):
                raise NotDataError("its numbers are in another byte order")
        elif type(target) is Array and target.values is None:
            target.values = _array_values(*state)
        else:
            raise NotDataError("it fills what is no empty array")


def _empty_array(kind: Any, shape: Any, code: Any) -> Array:
    if kind != NamedObject(NDARRAY) or shape != (0,) or code not in ("b", b"b"):
        raise NotDataError("it makes an array otherwise than arrays are saved")
    return Array()


def _dtype(code: Any, *_: object) -> Dtype:
    if not isinstance(code, str | bytes):
        raise NotDataError("a type has no name")
    name = code.decode("latin-1") if isinstance(code, bytes) else code
    if name not in _DTYPES:
        raise NotDataError(f"an array holds {name[:_MAX_WORD]!r}")
    return Dtype(name)


def _encoded(text: Any, encoding: Any) -> bytes:
    """Python 3 writes bytes in protocol 2 as text in latin-1, which maps 1 to 1."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise NotDataError("it encodes what is no bytes")
    return text.encode("latin-1")


def _array_values(
    _: object, shape: Any, dtype: Any, fortran: Any, raw: Any
) -> np.ndarray[Any, Any]:
    """Return the array of that shape, if there are as many bytes as it needs."""
    if type(dtype) is not Dtype or not isinstance(raw, str | bytes) or type(shape) is not tuple:
        raise NotDataError("an array is no numbers")
    data = raw.encode("latin-1") if isinstance(raw, str) else raw
    # A view of the bytes: nothing is allocated, so a wrong shape costs nothing.
    numbers = np.frombuffer(data, np.dtype(dtype.code))
    for side in shape:
        if type(side) is not int or side < 0:
            raise NotDataError("the sides of an array are no numbers")
    return numbers.reshape(shape, order="F" if fortran else "C")


CALLS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {RECONSTRUCT: _empty_array, DTYPE: _dtype, ENCODE: _encoded}
)

Instruction = Callable[[_Interpreter, Any], object]


def _constant(value: object) -> Instruction:
    return lambda interpreter, _: interpreter.push(value)


def _tuple_of(count: int) -> Instruction:
    return lambda interpreter, _: interpreter.build_tuple(count)


def _ignore(_: _Interpreter, __: object) -> None:
    """How the pickle is written, not what is in it."""


# The instruction's argument is the value.
_PUSH = dict.fromkeys(
    (
        "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
        "BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
        "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    ),
    _Interpreter.push,
)  # fmt: skip

INSTRUCTIONS: Mapping[str, Instruction] = MappingProxyType(
    {
        **_PUSH,
        "PROTO": _ignore,
        "FRAME": _ignore,
        "NONE": _constant(None),
        "NEWTRUE": _constant(value=True),
        "NEWFALSE": _constant(value=False),
        # A new list or dictionary each time, so these are not _constant.
        "EMPTY_DICT": lambda interpreter, _: interpreter.push({}),
        "EMPTY_LIST": lambda interpreter, _: interpreter.push([]),
        "EMPTY_TUPLE": _constant(()),
        "MARK": _Interpreter.mark,
        "TUPLE": lambda interpreter, _: interpreter.push(tuple(interpreter.pop_to_mark())),
        "TUPLE1": _tuple_of(1),
        "TUPLE2": _tuple_of(2),
        "TUPLE3": _tuple_of(3),
        "APPEND": _Interpreter.append,
        "APPENDS": _Interpreter.appends,
        "SETITEM": _Interpreter.set_item,
        "SETITEMS": lambda interpreter, _: interpreter.set_items(interpreter.pop_to_mark()),
        "BINPUT": _Interpreter.put_memo,
        "LONG_BINPUT": _Interpreter.put_memo,
        "MEMOIZE": _Interpreter.memoize,
        "BINGET": _Interpreter.get_memo,
        "LONG_BINGET": _Interpreter.get_memo,
        "GLOBAL": _Interpreter.global_name,
        "STACK_GLOBAL": _Interpreter.stack_global,
        "REDUCE": _Interpreter.reduce,
        "BUILD": _Interpreter.build,
    }
)
