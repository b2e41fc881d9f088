"""Python expressions as trees, and how they are broken into lines.

Lines have 88 columns, and are broken as ruff and black break them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

LINE_WIDTH = 88
INDENT = 4


@dataclass(frozen=True)
class Bracket:
    """Something in brackets.

    Args:
        head: opens them, with what stands before: ``nn.Linear(``.
        items: what stands between them, separated by commas.
        tail: closes them, with what follows.
        packed: the items may share one indented line, as the arguments of a call do; those of a
            list never do.
    """

    head: str
    items: "tuple[Code, ...]"
    tail: str = ")"
    packed: bool = True


Code = str | Bracket


def call_code(function: str, items: Iterable[Code]) -> Bracket:
    """A call of a function that is given by an expression."""
    return Bracket(f"{function}(", tuple(items))


def prefixed_code(prefix: str, code: Code) -> Code:
    """An expression with text before it: ``name=`` before a value."""
    if isinstance(code, str):
        return prefix + code
    return replace(code, head=prefix + code.head)


def suffixed_code(code: Code, suffix: str) -> Code:
    """An expression with text after it: a method that is called on it."""
    if isinstance(code, str):
        return code + suffix
    return replace(code, tail=code.tail + suffix)


def keyword_code(name: str, value: Code) -> Code:
    """``name=value``."""
    return prefixed_code(f"{name}=", value)


def single_line(code: Code) -> str:
    """The expression on one line."""
    if isinstance(code, str):
        return code
    return code.head + ", ".join(map(single_line, code.items)) + code.tail


def code_lines(code: Code, indent: int, prefix: str = "", suffix: str = "") -> list[str]:
    """Break an expression into as few lines as fit.

    Args:
        code: the expression.
        indent: spaces before the first line.
        prefix: text before the expression: ``x = ``.
        suffix: text after it.

    Returns:
        The lines, indented.

    Example:
        >>> code_lines(call_code("f", ["a", "b"]), 4, "x = ")
        ['    x = f(a, b)']
    """
    margin = " " * indent
    line = f"{margin}{prefix}{single_line(code)}{suffix}"
    if len(line) <= LINE_WIDTH or isinstance(code, str) or not code.items:
        return [line]
    first = f"{margin}{prefix}{code.head}"
    # The comma of a tuple of one, which its tail holds, already stands behind its item.
    last = f"{margin}{code.tail.lstrip(',')}{suffix}"
    return [first, *_body(code, indent + INDENT), last]


def _body(code: Bracket, indent: int) -> list[str]:
    """The items of a bracket: on one line if that is allowed and fits, else a line each."""
    packed = " " * indent + ", ".join(map(single_line, code.items))
    if code.packed and len(packed) <= LINE_WIDTH:
        return [packed]
    # A call with one argument has no comma behind it.
    comma = "" if code.packed and len(code.items) == 1 else ","
    lines = []
    for item in code.items:
        lines += code_lines(item, indent, suffix=comma)
    return lines


def string_code(text: str) -> str:
    """A literal of ``text`` in ASCII.

    In the quotes that need fewer escapes, in double ones if both need as many.
    """
    # Python prints a text that holds a double quote in single quotes, and then escapes only single
    # quotes in it. So a double quote is put first, and [2:-1] cuts it off with the quotes around.
    single_quoted = ascii('"' + text)[2:-1]
    body = single_quoted.replace("\\'", "'")
    if '"' in text and text.count('"') > text.count("'"):
        return "'" + body.replace("'", "\\'") + "'"
    return '"' + body.replace('"', '\\"') + '"'
