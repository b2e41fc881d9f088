"""Python expressions as trees, and how they are broken into lines of 88 columns as ruff and black do it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

LINE_WIDTH = 88
INDENT = 4


@dataclass(frozen=True)
class Bracket:
    """Something in brackets: ``head`` opens them, ``tail`` closes them.

    ``packed``: the items may share one indented line, as the arguments of a call do; those of a list never do.
    """

    head: str
    items: "tuple[Code, ...]"
    tail: str = ")"
    packed: bool = True


Code = str | Bracket


def call_code(function: str, items: Iterable[Code]) -> Bracket:
    """A call of a function that is given by an expression."""
    return Bracket(f"{function}(", tuple(items))


def keyword_code(name: str, value: Code) -> Code:
    """``name=value``."""
    return (
        f"{name}={value}" if isinstance(value, str) else replace(value, head=f"{name}={value.head}")
    )


def single_line(code: Code) -> str:
    """The expression on one line."""
    return (
        code
        if isinstance(code, str)
        else code.head + ", ".join(map(single_line, code.items)) + code.tail
    )


def code_lines(code: Code, indent: int, prefix: str = "", suffix: str = "") -> list[str]:
    """The expression between ``prefix`` and ``suffix``, indented, on as few lines as fit."""
    margin = " " * indent
    line = f"{margin}{prefix}{single_line(code)}{suffix}"
    if len(line) <= LINE_WIDTH or isinstance(code, str) or not code.items:
        return [line]
    return [
        f"{margin}{prefix}{code.head}",
        *_body(code, indent + INDENT),
        f"{margin}{code.tail.lstrip(',')}{suffix}",
    ]


def _body(code: Bracket, indent: int) -> list[str]:
    packed = " " * indent + ", ".join(map(single_line, code.items))
    if code.packed and len(packed) <= LINE_WIDTH:
        return [packed]
    comma = "" if code.packed and len(code.items) == 1 else ","
    return [line for item in code.items for line in code_lines(item, indent, suffix=comma)]


def string_code(text: str) -> str:
    """A literal of ``text`` in ASCII, in the quotes that need fewer escapes; double ones if both are alike."""
    single = ascii('"' + text)[
        2:-1
    ]  # with a double quote inside, Python takes single ones unless there are both
    body = single.replace("\\'", "'")
    if '"' in text and text.count('"') > text.count("'"):
        return "'" + body.replace("'", "\\'") + "'"
    return '"' + body.replace('"', '\\"') + '"'
