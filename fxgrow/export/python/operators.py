"""Calls of functions and methods as people write them: ``x + 1`` for ``operator.add(x, 1)``."""

import re
from collections.abc import Callable

from fxgrow.export.python.layout import Code, call_code, single_line
from fxgrow.export.python.names import Names
from fxgrow.export.python.values import ValueLookup, arguments_code, value_code
from fxgrow.spec import Argument, NodeArg, NodeSpec, SliceArg, TupleArg

_BINARY = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "truediv": "/",
    "floordiv": "//",
    "mod": "%",
    "matmul": "@",
    "and_": "&",
    "or_": "|",
    "xor": "^",
    "lshift": "<<",
    "rshift": ">>",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
}
_UNARY = {"neg": "-", "invert": "~", "inv": "~"}
# What ruff and black write without spaces around **: names, attributes and numbers.
_SIMPLE = re.compile(r"[\w.]+|-\d+", re.ASCII)


def operator_code(node: NodeSpec, names: Names, look_up: ValueLookup) -> Code:
    """What a ``call_function`` or ``call_method`` node computes.

    Args:
        node: the node.
        names: how the source writes functions.
        look_up: gives the expression for another node.

    Returns:
        The expression. Operands are names and numbers, so no brackets are needed for precedence.
    """
    if node.op == "call_method":
        owner, *rest = node.args
        method = f"{_line(owner, look_up)}.{node.target}"
        return call_code(method, arguments_code(tuple(rest), node.kwargs, look_up))
    written = _syntax(node, look_up)
    if written is not None:
        return written
    return call_code(names.public(node.target), arguments_code(node.args, node.kwargs, look_up))


def item_assignment(node: NodeSpec, look_up: ValueLookup) -> str | None:
    """``x[index] = value`` for ``operator.setitem``; None for other nodes."""
    if node.target != "operator.setitem":
        return None
    return f"{_element('', node, look_up)} = {_line(node.args[2], look_up)}"


def _line(argument: Argument, look_up: ValueLookup) -> str:
    return single_line(value_code(argument, look_up))


def _syntax(node: NodeSpec, look_up: ValueLookup) -> str | None:
    """The node in Python's own syntax, if it has one."""
    module, _, name = node.target.rpartition(".")
    if node.target == "builtins.getattr":
        return f"{_line(node.args[0], look_up)}.{node.args[1]}"
    if module != "operator":
        return None
    # With a constant first, as in 2 * x, only binary operators are sure to read well.
    writers = _WRITERS if isinstance(node.args[0], NodeArg) else _CONSTANT_FIRST
    return writers[name](name, node, look_up) if name in writers else None


def _binary(name: str, node: NodeSpec, look_up: ValueLookup) -> str | None:
    for item in node.args:
        # Other constants, such as tuples, are left to the function.
        if not isinstance(item, NodeArg) and type(item) not in (int, float):
            return None
    left, right = node.args
    return f"{_line(left, look_up)} {_BINARY[name]} {_line(right, look_up)}"


def _power(_: str, node: NodeSpec, look_up: ValueLookup) -> str | None:
    if not isinstance(node.args[1], NodeArg) and type(node.args[1]) is not int:
        return None
    base, exponent = _line(node.args[0], look_up), _line(node.args[1], look_up)
    tight = _SIMPLE.fullmatch(base) and _SIMPLE.fullmatch(exponent)
    return f"{base}**{exponent}" if tight else f"{base} ** {exponent}"


def _unary(name: str, node: NodeSpec, look_up: ValueLookup) -> str:
    return f"{_UNARY[name]}{_line(node.args[0], look_up)}"


def _element(_: str, node: NodeSpec, look_up: ValueLookup) -> str:
    index = node.args[1]
    # x[a, b] is x[(a, b)]; a tuple of one has to keep its brackets.
    parts = index.tuple if isinstance(index, TupleArg) and len(index.tuple) > 1 else (index,)
    written = [_index(part, look_up) for part in parts]
    return f"{_line(node.args[0], look_up)}[{', '.join(written)}]"


def _index(part: Argument, look_up: ValueLookup) -> str:
    if not isinstance(part, SliceArg):
        return _line(part, look_up)
    written = ["" if item is None else _line(item, look_up) for item in part.slice]
    # The second colon only before a step.
    return ":".join(written if written[2] else written[:2])


# How operators are written, by name.
_WRITERS: dict[str, Callable[[str, NodeSpec, ValueLookup], str | None]] = {
    **dict.fromkeys(_BINARY, _binary),
    **dict.fromkeys(_UNARY, _unary),
    "pow": _power,
    "getitem": _element,
}
_CONSTANT_FIRST = dict.fromkeys(_BINARY, _binary)
# Operators that write into their first operand: "operator.iadd" -> "+=". Comparisons have none.
IN_PLACE = {
    f"operator.i{name}": f"{sign}=" for name, sign in _BINARY.items() if name not in ("eq", "ne")
}
