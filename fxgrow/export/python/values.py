"""Arguments of nodes and constructors as Python expressions. Strings and names are quoted or checked, never pasted."""

from collections.abc import Callable
from typing import Any

from fxgrow.export.python.layout import Bracket, Code, call_code, keyword_code, string_code
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

ValueLookup = Callable[[str], str]
"""From the name of a node to the expression that holds its value."""


def _tuple(argument: TupleArg, look: ValueLookup) -> Code:
    items = tuple(value_code(item, look) for item in argument.tuple)
    return Bracket("(", items, ",)" if len(items) == 1 else ")", packed=False)


_FORMS: dict[type, Callable[[Any, ValueLookup], Code]] = {
    str: lambda argument, _: string_code(argument),
    NodeArg: lambda argument, look: look(argument.node),
    NumberArg: lambda argument, _: f'float("{argument.number}")',
    TupleArg: _tuple,
    ListArg: lambda argument, look: Bracket(
        "[", tuple(value_code(item, look) for item in argument.list), "]", packed=False
    ),
    MappingArg: lambda argument, look: Bracket(
        "{",
        tuple(_entry(key, value_code(item, look)) for key, item in argument.mapping.items()),
        "}",
        packed=False,
    ),
    SliceArg: lambda argument, look: call_code(
        "slice", (value_code(item, look) for item in argument.slice)
    ),
    DTypeArg: lambda argument, _: f"torch.{argument.dtype}",
    DeviceArg: lambda argument, _: f"torch.device({string_code(argument.device)})",
    MemoryFormatArg: lambda argument, _: f"torch.{argument.memory_format}",
    LayoutArg: lambda argument, _: f"torch.{argument.layout}",
    EllipsisArg: lambda *_: "...",
}


def value_code(argument: Argument, look: ValueLookup) -> Code:
    """The expression for an argument; None, truth values and numbers as Python prints them."""
    form = _FORMS.get(type(argument))
    return repr(argument) if form is None else form(argument, look)


def _entry(key: str, item: Code) -> Code:
    quoted = f"{string_code(key)}: "
    return (
        quoted + item
        if isinstance(item, str)
        else Bracket(quoted + item.head, item.items, item.tail, item.packed)
    )


def arguments_code(
    args: tuple[Argument, ...], kwargs: dict[str, Argument], look: ValueLookup
) -> list[Code]:
    """What stands between the brackets of a call; keywords were checked to be plain identifiers."""
    named = (keyword_code(key, value_code(item, look)) for key, item in kwargs.items())
    return [*(value_code(item, look) for item in args), *named]
