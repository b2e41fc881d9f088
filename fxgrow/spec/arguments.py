"""Arguments of nodes and constructors as a closed union, and how Python values become such.

Plain JSON values stand for themselves; everything else is an object with one key that tells what
it is: ``{"node": "relu"}``, ``{"tuple": [1, 2]}``, ``{"dtype": "float32"}``, ``{"number": "nan"}``.
"""

import math
from collections.abc import Callable, Iterator
from functools import singledispatch
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import Discriminator, Field, Tag
from torch import fx

from fxgrow.documents import StrictModel
from fxgrow.errors import ArgumentError, SpecError

DType = Literal[
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8",
    "uint8", "uint16", "uint32", "uint64", "bool", "complex64",
    "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz",
]  # fmt: skip
MemoryFormat = Literal["contiguous_format", "preserve_format", "channels_last", "channels_last_3d"]

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in get_args(DType)}
DTYPE_NAMES: dict[torch.dtype, DType] = {getattr(torch, name): name for name in get_args(DType)}
MEMORY_FORMATS: dict[str, torch.memory_format] = {
    name: getattr(torch, name) for name in get_args(MemoryFormat)
}
_MEMORY_FORMAT_NAMES: dict[torch.memory_format, MemoryFormat] = {
    getattr(torch, name): name for name in get_args(MemoryFormat)
}
NUMBER_TEXTS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}

_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**63 - 1
Integer = Annotated[int, Field(ge=_MIN_INTEGER, le=_MAX_INTEGER)]


class NodeArg(StrictModel):
    """The value of another node.

    Args:
        node: The node's name.
    """

    node: str


class NumberArg(StrictModel):
    """A float that JSON cannot write.

    Args:
        number: Which of the three.
    """

    number: Literal["nan", "inf", "-inf"]


class TupleArg(StrictModel):
    """A tuple.

    Args:
        tuple: Its items.
    """

    tuple: "tuple[Argument, ...]"


class ListArg(StrictModel):
    """A list.

    Args:
        list: Its items.
    """

    list: "tuple[Argument, ...]"


class MappingArg(StrictModel):
    """A dict with string keys.

    Args:
        mapping: Its items.
    """

    mapping: "dict[str, Argument]"


class SliceArg(StrictModel):
    """A slice.

    Args:
        slice: Start, stop and step.
    """

    slice: "tuple[Argument, Argument, Argument]"


class DTypeArg(StrictModel):
    """A torch.dtype.

    Args:
        dtype: Its name in ``torch``.
    """

    dtype: DType


class DeviceArg(StrictModel):
    """A torch.device.

    Args:
        device: Its type, with an index if it has one: ``cuda:0``.
    """

    device: Annotated[str, Field(pattern=r"^(cpu|cuda|meta|mps|xpu)(:(0|[1-9][0-9]?))?$")]


class MemoryFormatArg(StrictModel):
    """A torch.memory_format.

    Args:
        memory_format: Its name in ``torch``.
    """

    memory_format: MemoryFormat


class LayoutArg(StrictModel):
    """A torch.layout; only the dense one.

    Args:
        layout: Always ``strided``.
    """

    layout: Literal["strided"]


class EllipsisArg(StrictModel):
    """``...`` in an index.

    Args:
        ellipsis: Always true.
    """

    ellipsis: Literal[True]


_PLAIN = {type(None): "none", bool: "bool", int: "int", float: "float", str: "str"}


def _tag(value: object) -> str | None:
    """Which member of the union a JSON value or a model is; ``None`` if it is none of them."""
    if isinstance(value, dict):
        # The one key of the object is the one field of its model.
        return next(iter(value)) if len(value) == 1 else None
    if isinstance(value, StrictModel):
        return next(iter(type(value).model_fields))
    return _PLAIN.get(type(value))


# The discriminator picks the member before anything is validated, so that an error is about the
# member that was meant, and not about all sixteen in turn.
Argument = Annotated[
    Annotated[None, Tag("none")]
    | Annotated[bool, Tag("bool")]
    | Annotated[Integer, Tag("int")]
    | Annotated[float, Tag("float")]
    | Annotated[str, Tag("str")]
    | Annotated[NodeArg, Tag("node")]
    | Annotated[NumberArg, Tag("number")]
    | Annotated[TupleArg, Tag("tuple")]
    | Annotated[ListArg, Tag("list")]
    | Annotated[MappingArg, Tag("mapping")]
    | Annotated[SliceArg, Tag("slice")]
    | Annotated[DTypeArg, Tag("dtype")]
    | Annotated[DeviceArg, Tag("device")]
    | Annotated[MemoryFormatArg, Tag("memory_format")]
    | Annotated[LayoutArg, Tag("layout")]
    | Annotated[EllipsisArg, Tag("ellipsis")],
    Discriminator(_tag),
]
# These models contain arguments themselves, which pydantic can resolve only now.
for _model in (TupleArg, ListArg, MappingArg, SliceArg):
    _model.model_rebuild()


@singledispatch
def encode(value: object) -> Argument:
    """Convert a Python value to the argument that stands for it.

    Args:
        value: What fx keeps as an argument of a node, or what a constructor takes.

    Returns:
        The argument; ``decode`` turns it back.

    Raises:
        SpecError: ``bad-argument`` for a value that a spec cannot hold.

    Example:
        >>> encode((1, float("inf")))
        TupleArg(tuple=(1, NumberArg(number='inf')))
    """
    raise SpecError(
        "bad-argument",
        f"a value of type {type(value).__name__} cannot be written to a spec; pass plain numbers, "
        "strings, tuples, dicts, slices or torch constants",
    )


@encode.register(type(None))
@encode.register(bool)
def _encode_plain(value: bool | None) -> Argument:
    return value


@encode.register
def _encode_str(value: str) -> Argument:
    # str() drops the type of a subclass, such as a string enum.
    return str(value)


@encode.register
def _encode_int(value: int) -> Argument:
    if not _MIN_INTEGER <= value <= _MAX_INTEGER:
        raise SpecError(
            "bad-argument", f"the integer {value} does not fit into 64 bits; use a smaller one"
        )
    return int(value)


@encode.register
def _encode_float(value: float) -> Argument:
    if math.isnan(value):
        return NumberArg(number="nan")
    if math.isinf(value):
        return NumberArg(number="inf" if value > 0 else "-inf")
    return float(value)


@encode.register
def _encode_node(value: fx.Node) -> Argument:
    return NodeArg(node=value.name)


@encode.register
def _encode_node_argument(value: NodeArg) -> Argument:
    return value


@encode.register
def _encode_tuple(value: tuple) -> Argument:  # type: ignore[type-arg]
    # singledispatch takes no parametrized types, hence the bare tuple, list and dict.
    if hasattr(value, "_fields"):
        raise SpecError(
            "bad-argument",
            f"the named tuple {type(value).__name__} cannot be written to a spec; unpack it",
        )
    return TupleArg(tuple=tuple(map(encode, value)))


@encode.register
def _encode_list(value: list) -> Argument:  # type: ignore[type-arg]
    return ListArg(list=tuple(map(encode, value)))


@encode.register
def _encode_dict(value: dict) -> Argument:  # type: ignore[type-arg]
    if not all(isinstance(key, str) for key in value):
        raise SpecError(
            "bad-argument",
            "a dict with keys that are not strings cannot be written to a spec; rename them",
        )
    return MappingArg(mapping={key: encode(item) for key, item in value.items()})


@encode.register
def _encode_slice(value: slice) -> Argument:
    return SliceArg(slice=(encode(value.start), encode(value.stop), encode(value.step)))


@encode.register
def _encode_dtype(value: torch.dtype) -> Argument:
    if value not in DTYPE_NAMES:
        raise SpecError(
            "bad-argument", f"{value} cannot be written to a spec; use one of {', '.join(DTYPES)}"
        )
    return DTypeArg(dtype=DTYPE_NAMES[value])


@encode.register
def _encode_device(value: torch.device) -> Argument:
    try:
        return DeviceArg(device=str(value))
    except ArgumentError as error:
        raise SpecError(
            "bad-argument",
            f"{value} cannot be written to a spec; use a device of cpu, cuda, meta, mps or xpu",
        ) from error


@encode.register
def _encode_memory_format(value: torch.memory_format) -> Argument:
    return MemoryFormatArg(memory_format=_MEMORY_FORMAT_NAMES[value])


@encode.register
def _encode_layout(value: torch.layout) -> Argument:
    if value is not torch.strided:
        raise SpecError(
            "bad-argument", f"{value} cannot be written to a spec; only dense tensors are supported"
        )
    return LayoutArg(layout="strided")


@encode.register(type(...))
def _encode_ellipsis(value: object) -> Argument:  # noqa: ARG001  # there is only one
    return EllipsisArg(ellipsis=True)


Lookup = Callable[[str], Any]
"""Gives the value that stands for a node's name."""

_CONSTANTS: dict[type, Callable[[Any], Any]] = {
    NumberArg: lambda argument: NUMBER_TEXTS[argument.number],
    DTypeArg: lambda argument: DTYPES[argument.dtype],
    DeviceArg: lambda argument: torch.device(argument.device),
    MemoryFormatArg: lambda argument: MEMORY_FORMATS[argument.memory_format],
    LayoutArg: lambda _: torch.strided,
    EllipsisArg: lambda _: ...,
}


def _decode_items(items: tuple[Argument, ...], lookup: Lookup) -> list[Any]:
    return [decode(item, lookup) for item in items]


def _decode_mapping(mapping: dict[str, Argument], lookup: Lookup) -> dict[str, Any]:
    return {key: decode(item, lookup) for key, item in mapping.items()}


_COMPOUNDS: dict[type, Callable[[Any, Lookup], Any]] = {
    NodeArg: lambda argument, lookup: lookup(argument.node),
    TupleArg: lambda argument, lookup: tuple(_decode_items(argument.tuple, lookup)),
    ListArg: lambda argument, lookup: _decode_items(argument.list, lookup),
    MappingArg: lambda argument, lookup: _decode_mapping(argument.mapping, lookup),
    SliceArg: lambda argument, lookup: slice(*_decode_items(argument.slice, lookup)),
}


def decode(argument: Argument, lookup: Lookup) -> Any:
    """Convert an argument back to the Python value that it stands for.

    Args:
        argument: What ``encode`` gave, or what was read from a spec.
        lookup: Gives the value for a node's name.

    Returns:
        The value, with what ``lookup`` gave in place of nodes.
    """
    if type(argument) in _COMPOUNDS:
        return _COMPOUNDS[type(argument)](argument, lookup)
    constant = _CONSTANTS.get(type(argument))
    return argument if constant is None else constant(argument)


def references(argument: Argument) -> Iterator[str]:
    """The names of the nodes in ``argument``, in order, repeats included."""
    names: list[str] = []
    # Decoding looks up every node once; the values it gives are not needed.
    decode(argument, names.append)
    yield from names


class _Name(str):
    """A node's name that prints without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def argument_text(argument: Argument) -> str:
    """``argument`` as Python would print it, with nodes by name."""
    return repr(decode(argument, _Name))
