"""Arguments of nodes and constructors as Python expressions. Strings and names are quoted or checked, never pasted."""

from collections.abc import Callable
from typing import Any

from fxgrow.export.python.layout import Bracket, Code, call, keyword, string
from fxgrow.spec.arguments import (
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

Look = Callable[[str], str]
"""From the name of a node to the expression that holds its value."""


def _tuple(argument: TupleArg, look: Look) -> Code:
    items = tuple(value(item, look) for item in argument.tuple)
    return Bracket("(", items, ",)" if len(items) == 1 else ")", packed=False)


_FORMS: dict[type, Callable[[Any, Look], Code]] = {
    str: lambda argument, _: string(argument),
    NodeArg: lambda argument, look: look(argument.node),
    NumberArg: lambda argument, _: f'float("{argument.number}")',
    TupleArg: _tuple,
    ListArg: lambda argument, look: Bracket("[", tuple(value(item, look) for item in argument.list), "]", packed=False),
    MappingArg: lambda argument, look: Bracket(
        "{", tuple(_entry(key, value(item, look)) for key, item in argument.mapping.items()), "}", packed=False
    ),
    SliceArg: lambda argument, look: call("slice", (value(item, look) for item in argument.slice)),
    DTypeArg: lambda argument, _: f"torch.{argument.dtype}",
    DeviceArg: lambda argument, _: f"torch.device({string(argument.device)})",
    MemoryFormatArg: lambda argument, _: f"torch.{argument.memory_format}",
    LayoutArg: lambda argument, _: f"torch.{argument.layout}",
    EllipsisArg: lambda *_: "...",
}


def value(argument: Argument, look: Look) -> Code:
    """The expression for an argument; None, truth values and numbers as Python prints them."""
    form = _FORMS.get(type(argument))
    return repr(argument) if form is None else form(argument, look)


def _entry(key: str, item: Code) -> Code:
    quoted = f"{string(key)}: "
    return quoted + item if isinstance(item, str) else Bracket(quoted + item.head, item.items, item.tail, item.packed)


def arguments(args: tuple[Argument, ...], kwargs: dict[str, Argument], look: Look) -> list[Code]:
    """What stands between the brackets of a call; keywords were checked to be plain identifiers."""
    named = (keyword(key, value(item, look)) for key, item in kwargs.items())
    return [*(value(item, look) for item in args), *named]
