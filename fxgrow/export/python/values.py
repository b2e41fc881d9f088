"""Arguments of nodes and constructors as Python expressions.

Strings and names are quoted or checked, never pasted.
"""

from collections.abc import Callable, Iterable
from typing import Any

from fxgrow.export.python.layout import (
    Bracket,
    Code,
    call_code,
    keyword_code,
    prefixed_code,
    string_code,
)
from fxgrow.spec import (
    Argument,
    DeviceArg,
    DTypeArg,
    EllipsisArg,
    LayoutArg,
    ListArg,
    MappingArg,
    MemoryFormatArg,
    NodeArg,
    NumberArg,
    SliceArg,
    TupleArg,
)

# From the name of a node to the expression that holds its value.
ValueLookup = Callable[[str], str]


def _items(arguments: Iterable[Argument], look_up: ValueLookup) -> tuple[Code, ...]:
    return tuple(value_code(argument, look_up) for argument in arguments)


def _tuple(argument: TupleArg, look_up: ValueLookup) -> Code:
    items = _items(argument.tuple, look_up)
    tail = ",)" if len(items) == 1 else ")"
    return Bracket("(", items, tail, packed=False)


def _list(argument: ListArg, look_up: ValueLookup) -> Code:
    return Bracket("[", _items(argument.list, look_up), "]", packed=False)


def _mapping(argument: MappingArg, look_up: ValueLookup) -> Code:
    entries = []
    for key, value in argument.mapping.items():
        entries.append(prefixed_code(f"{string_code(key)}: ", value_code(value, look_up)))
    return Bracket("{", tuple(entries), "}", packed=False)


def _slice(argument: SliceArg, look_up: ValueLookup) -> Code:
    return call_code("slice", _items(argument.slice, look_up))


# How each kind of argument is written; the others are numbers, truth values and None.
_WRITERS: dict[type, Callable[[Any, ValueLookup], Code]] = {
    str: lambda argument, _: string_code(argument),
    NodeArg: lambda argument, look_up: look_up(argument.node),
    NumberArg: lambda argument, _: f'float("{argument.number}")',
    TupleArg: _tuple,
    ListArg: _list,
    MappingArg: _mapping,
    SliceArg: _slice,
    DTypeArg: lambda argument, _: f"torch.{argument.dtype}",
    DeviceArg: lambda argument, _: f"torch.device({string_code(argument.device)})",
    MemoryFormatArg: lambda argument, _: f"torch.{argument.memory_format}",
    LayoutArg: lambda argument, _: f"torch.{argument.layout}",
    EllipsisArg: lambda *_: "...",
}


def value_code(argument: Argument, look_up: ValueLookup) -> Code:
    """The expression for an argument.

    Args:
        argument: an argument as a spec holds it.
        look_up: gives the expression for a node.

    Returns:
        The expression; None, truth values and numbers as Python prints them.
    """
    writer = _WRITERS.get(type(argument))
    return repr(argument) if writer is None else writer(argument, look_up)


def arguments_code(
    args: tuple[Argument, ...], kwargs: dict[str, Argument], look_up: ValueLookup
) -> list[Code]:
    """What stands between the brackets of a call.

    Args:
        args: the arguments by position.
        kwargs: the arguments by name; names were checked to be plain identifiers.
        look_up: gives the expression for a node.

    Returns:
        One expression per argument, in order.
    """
    written = list(_items(args, look_up))
    for key, item in kwargs.items():
        written.append(keyword_code(key, value_code(item, look_up)))
    return written
