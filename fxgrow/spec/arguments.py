"""Arguments of nodes and constructors as a closed union, and the two ways between them and Python values.

Plain JSON values stand for themselves; everything else is an object with one key that says what it is:
``{"node": "relu"}``, ``{"tuple": [1, 2]}``, ``{"dtype": "float32"}``, ``{"number": "nan"}``.
"""

import math
from collections.abc import Callable, Iterator
from functools import singledispatch
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import Discriminator, Field, Tag, ValidationError
from torch import fx

from fxgrow.documents import StrictModel
from fxgrow.errors import SpecError

DType = Literal[
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32",
    "uint64", "bool", "complex64", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz",
]  # fmt: skip
MemoryFormat = Literal["contiguous_format", "preserve_format", "channels_last", "channels_last_3d"]

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in get_args(DType)}
DTYPE_NAMES: dict[torch.dtype, DType] = {getattr(torch, name): name for name in get_args(DType)}
MEMORY_FORMATS: dict[str, torch.memory_format] = {
    name: getattr(torch, name) for name in get_args(MemoryFormat)
}
NUMBER_TEXTS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}

Integer = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]


class NodeArg(StrictModel):
    """The value of another node."""

    node: str


class NumberArg(StrictModel):
    """A float that JSON has no word for."""

    number: Literal["nan", "inf", "-inf"]


class TupleArg(StrictModel):
    """A tuple."""

    tuple: "tuple[Argument, ...]"


class ListArg(StrictModel):
    """A list."""

    list: "tuple[Argument, ...]"


class MappingArg(StrictModel):
    """A dict with string keys."""

    mapping: "dict[str, Argument]"


class SliceArg(StrictModel):
    """A slice: start, stop, step."""

    slice: "tuple[Argument, Argument, Argument]"


class DTypeArg(StrictModel):
    """A torch.dtype."""

    dtype: DType


class DeviceArg(StrictModel):
    """A torch.device."""

    device: Annotated[str, Field(pattern=r"^(cpu|cuda|meta|mps|xpu)(:(0|[1-9][0-9]?))?$")]


class MemoryFormatArg(StrictModel):
    """A torch.memory_format."""

    memory_format: MemoryFormat


class LayoutArg(StrictModel):
    """A torch.layout; only the dense one."""

    layout: Literal["strided"]


class EllipsisArg(StrictModel):
    """``...`` in an index."""

    ellipsis: Literal[True]


_PLAIN = {type(None): "none", bool: "bool", int: "int", float: "float", str: "str"}


def _tag(value: object) -> str | None:
    """Which member of the union a JSON value or a model is; ``None`` is none of them."""
    if isinstance(value, dict):
        return next(iter(value)) if len(value) == 1 else None
    if isinstance(value, StrictModel):
        return next(iter(type(value).model_fields))
    return _PLAIN.get(type(value))


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
for _model in (TupleArg, ListArg, MappingArg, SliceArg):
    _model.model_rebuild()


@singledispatch
def encode(value: object) -> Argument:
    """The argument that stands for ``value``; ``SpecError("bad-argument")`` for a value a spec cannot hold."""
    raise SpecError(
        "bad-argument",
        f"a value of type {type(value).__name__} cannot be written to a spec; pass plain numbers, strings, tuples, "
        "dicts, slices or torch constants",
    )


@encode.register(type(None))
@encode.register(bool)
def _plain(value: bool | None) -> Argument:
    return value


@encode.register
def _str(value: str) -> Argument:
    return str(value)


@encode.register
def _int(value: int) -> Argument:
    if not -(2**63) <= value < 2**63:
        raise SpecError(
            "bad-argument", f"the integer {value} does not fit into 64 bits; use a smaller one"
        )
    return int(value)


@encode.register
def _float(value: float) -> Argument:
    if math.isnan(value):
        return NumberArg(number="nan")
    if math.isinf(value):
        return NumberArg(number="inf" if value > 0 else "-inf")
    return float(value)


@encode.register
def _node(value: fx.Node) -> Argument:
    return NodeArg(node=value.name)


@encode.register
def _node_argument(value: NodeArg) -> Argument:
    return value


@encode.register
def _tuple(value: tuple) -> Argument:  # type: ignore[type-arg]  # singledispatch takes no parametrised types
    if hasattr(value, "_fields"):
        raise SpecError(
            "bad-argument",
            f"the named tuple {type(value).__name__} cannot be written to a spec; unpack it",
        )
    return TupleArg(tuple=tuple(encode(item) for item in value))


@encode.register
def _list(value: list) -> Argument:  # type: ignore[type-arg]
    return ListArg(list=tuple(encode(item) for item in value))


@encode.register
def _dict(value: dict) -> Argument:  # type: ignore[type-arg]
    if not all(isinstance(key, str) for key in value):
        raise SpecError(
            "bad-argument",
            "a dict with keys that are not strings cannot be written to a spec; rename them",
        )
    return MappingArg(mapping={key: encode(item) for key, item in value.items()})


@encode.register
def _slice(value: slice) -> Argument:
    return SliceArg(slice=(encode(value.start), encode(value.stop), encode(value.step)))


@encode.register
def _dtype(value: torch.dtype) -> Argument:
    if value not in DTYPE_NAMES:
        raise SpecError(
            "bad-argument", f"{value} cannot be written to a spec; use one of {', '.join(DTYPES)}"
        )
    return DTypeArg(dtype=DTYPE_NAMES[value])


@encode.register
def _device(value: torch.device) -> Argument:
    try:
        return DeviceArg(device=str(value))
    except ValidationError as error:
        raise SpecError(
            "bad-argument",
            f"{value} cannot be written to a spec; use a device of cpu, cuda, meta, mps or xpu",
        ) from error


@encode.register
def _memory_format(value: torch.memory_format) -> Argument:
    names: dict[torch.memory_format, MemoryFormat] = {
        getattr(torch, name): name for name in get_args(MemoryFormat)
    }
    return MemoryFormatArg(memory_format=names[value])


@encode.register
def _layout(value: torch.layout) -> Argument:
    if value is not torch.strided:
        raise SpecError(
            "bad-argument", f"{value} cannot be written to a spec; only dense tensors are supported"
        )
    return LayoutArg(layout="strided")


@encode.register(type(...))
def _ellipsis(value: object) -> Argument:  # noqa: ARG001  # there is only one
    return EllipsisArg(ellipsis=True)


Lookup = Callable[[str], Any]

_CONSTANTS: dict[type, Callable[[Any], Any]] = {
    NumberArg: lambda argument: NUMBER_TEXTS[argument.number],
    DTypeArg: lambda argument: DTYPES[argument.dtype],
    DeviceArg: lambda argument: torch.device(argument.device),
    MemoryFormatArg: lambda argument: MEMORY_FORMATS[argument.memory_format],
    LayoutArg: lambda _: torch.strided,
    EllipsisArg: lambda _: ...,
}
_COMPOUNDS: dict[type, Callable[[Any, Lookup], Any]] = {
    NodeArg: lambda argument, look: look(argument.node),
    TupleArg: lambda argument, look: tuple(decode(item, look) for item in argument.tuple),
    ListArg: lambda argument, look: [decode(item, look) for item in argument.list],
    MappingArg: lambda argument, look: {
        key: decode(item, look) for key, item in argument.mapping.items()
    },
    SliceArg: lambda argument, look: slice(*(decode(item, look) for item in argument.slice)),
}


def decode(argument: Argument, look: Lookup) -> Any:
    """The Python value of ``argument``; ``look`` gives the value for a node's name."""
    if type(argument) in _COMPOUNDS:
        return _COMPOUNDS[type(argument)](argument, look)
    constant = _CONSTANTS.get(type(argument))
    return argument if constant is None else constant(argument)


def references(argument: Argument) -> Iterator[str]:
    """The names of the nodes in ``argument``, in order, repeats included."""
    found: list[str] = []
    decode(argument, found.append)
    yield from found


class _Name(str):
    """A node's name that prints without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def argument_text(argument: Argument) -> str:
    """``argument`` as Python would print it, nodes by name."""
    return repr(decode(argument, _Name))
