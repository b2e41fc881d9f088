"""Calls of functions and methods as the Python that people write: ``x + 1`` for ``operator.add(x, 1)``."""

import re
from collections.abc import Callable

from fxgrow.export.python.layout import Code, call_code, single_line
from fxgrow.export.python.names import Names
from fxgrow.export.python.values import ValueLookup, arguments_code, value_code
from fxgrow.spec import Argument, NodeArg, NodeSpec, SliceArg, TupleArg

_BINARY = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "matmul": "@", "and_": "&",
    "or_": "|", "xor": "^", "lshift": "<<", "rshift": ">>", "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">",
    "ge": ">=",
}  # fmt: skip
_UNARY = {"neg": "-", "invert": "~", "inv": "~"}
_SIMPLE = re.compile(r"[\w.]+|-\d+", re.ASCII)


def operator_code(node: NodeSpec, names: Names, look: ValueLookup) -> Code:
    """What a call_function or call_method node computes. Operands are names and numbers, so precedence is no matter."""
    if node.op == "call_method":
        owner, *rest = node.args
        return call_code(
            f"{single_line(value_code(owner, look))}.{node.target}",
            arguments_code(tuple(rest), node.kwargs, look),
        )
    written = _syntax(node, look)
    return (
        written
        if written is not None
        else call_code(names.public(node.target), arguments_code(node.args, node.kwargs, look))
    )


def _syntax(node: NodeSpec, look: ValueLookup) -> str | None:
    """The node in Python's own syntax, if it has one."""
    kind, _, name = node.target.rpartition(".")
    if node.target == "builtins.getattr":
        return f"{single_line(value_code(node.args[0], look))}.{node.args[1]}"
    if kind != "operator" or not isinstance(node.args[0], NodeArg):
        return None if kind != "operator" else _reflected(name, node, look)
    return _FORMS[name](name, node, look) if name in _FORMS else None


def _reflected(name: str, node: NodeSpec, look: ValueLookup) -> str | None:
    """A number before a value: 2 * x."""
    return _binary(name, node, look) if name in _BINARY else None


def _binary(name: str, node: NodeSpec, look: ValueLookup) -> str | None:
    if not all(isinstance(item, NodeArg) or type(item) in (int, float) for item in node.args):
        return None
    left, right = (single_line(value_code(item, look)) for item in node.args)
    return f"{left} {_BINARY[name]} {right}"


def _power(_: str, node: NodeSpec, look: ValueLookup) -> str | None:
    if not isinstance(node.args[1], NodeArg) and type(node.args[1]) is not int:
        return None
    base, exponent = (single_line(value_code(item, look)) for item in node.args)
    tight = _SIMPLE.fullmatch(base) and _SIMPLE.fullmatch(exponent)
    return f"{base}**{exponent}" if tight else f"{base} ** {exponent}"


def _unary(name: str, node: NodeSpec, look: ValueLookup) -> str:
    return f"{_UNARY[name]}{single_line(value_code(node.args[0], look))}"


def _element(_: str, node: NodeSpec, look: ValueLookup) -> str:
    index = node.args[1]
    parts = index.tuple if isinstance(index, TupleArg) and len(index.tuple) > 1 else (index,)
    return f"{single_line(value_code(node.args[0], look))}[{', '.join(_index(part, look) for part in parts)}]"


def _index(part: Argument, look: ValueLookup) -> str:
    if not isinstance(part, SliceArg):
        return single_line(value_code(part, look))
    start, stop, step = (
        "" if item is None else single_line(value_code(item, look)) for item in part.slice
    )
    return f"{start}:{stop}" + (f":{step}" if step else "")


_FORMS: dict[str, Callable[[str, NodeSpec, ValueLookup], str | None]] = {
    **dict.fromkeys(_BINARY, _binary),
    **dict.fromkeys(_UNARY, _unary),
    "pow": _power,
    "getitem": _element,
}
IN_PLACE = {
    f"operator.i{name}": f"{sign}=" for name, sign in _BINARY.items() if name not in ("eq", "ne")
}
