"""The grammar of model references: ``scheme:name?option=value&...``.

``torchvision:vgg19_bn?num_classes=10&width=0.125&input=3x32x32`` names a constructor and its options. ``width`` and
``input`` belong to fxgrow, every other option to the constructor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, urlencode

from fxgrow.documents import limits
from fxgrow.errors import ModelError

InputShape = tuple[int, ...]

_WORDS: Mapping[str, bool | None] = MappingProxyType({"true": True, "false": False, "none": None})
_NUMBER_TYPES = (int, float)


@dataclass(frozen=True)
class Reference:
    """A parsed reference.

    ``options`` are the constructor's, typed. ``width`` is the factor by which all widths shall be scaled, or None.
    ``inputs`` are the shapes of the example inputs without the batch axis; none if the reference does not say.
    """

    scheme: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    width: float | None = None
    inputs: tuple[InputShape, ...] = ()

    @property
    def label(self) -> str:
        """The reference in words that name the same constructor call again."""
        values = {name: _text(value) for name, value in self.options.items()}
        return f"{self.scheme}:{self.name}" + (f"?{urlencode(values, safe=',')}" if values else "")


def parse_reference(scheme: str, rest: str) -> Reference:
    """Read what follows ``scheme:``. Raises ``ModelError`` (``bad-reference``) on anything malformed or too long."""
    if len(rest) > limits.REFERENCE:
        raise ModelError(
            "bad-reference",
            f"the reference {rest[:40]!r}... has more than {limits.REFERENCE} characters; shorten it",
        )
    name, _, query = rest.partition("?")
    if not name:
        raise ModelError(
            "bad-reference", f"the reference {scheme}:{rest} names no model; write {scheme}:NAME"
        )
    words = _pairs(query)
    width, inputs = words.pop("width", None), words.pop("input", None)
    return Reference(
        scheme=scheme,
        name=name,
        options={option: _value(word) for option, word in words.items()},
        width=None if width is None else _width(width),
        inputs=() if inputs is None else _shapes(inputs),
    )


def _pairs(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise ModelError(
            "bad-reference",
            f"the options {query[: limits.MESSAGE]!r} cannot be read; write option=value, joined by &",
        ) from error
    words = dict(pairs)
    if len(words) < len(pairs):
        raise ModelError(
            "bad-reference",
            f"the options {query[: limits.MESSAGE]!r} give one option twice; give each only once",
        )
    return words


def _value(word: str) -> Any:
    """Words, then integers, then other numbers, then text; several of them with commas between are a tuple."""
    if "," in word:
        return tuple(_value(part) for part in word.split(","))
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    for number in _NUMBER_TYPES:
        try:
            return number(word)
        except ValueError:
            continue
    return word


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _width(word: str) -> float:
    value = _value(word)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 < value <= limits.WIDTH_FACTOR
    ):
        raise ModelError(
            "bad-reference",
            f"width={word[: limits.MESSAGE]} is no factor to scale all widths by; give a number above 0 and at most "
            f"{limits.WIDTH_FACTOR}, as in width=0.5",
        )
    return float(value)


def _shapes(words: str) -> tuple[InputShape, ...]:
    shapes = tuple(_shape(word) for word in words.split(","))
    if sum(map(prod, shapes)) > limits.INPUT_ELEMENTS:
        raise ModelError(
            "bad-reference",
            f"the inputs {words[: limits.MESSAGE]} have more than {limits.INPUT_ELEMENTS} elements; ask for "
            "smaller ones",
        )
    return shapes


def _shape(word: str) -> InputShape:
    sizes = word.split("x")
    if not all(size.isdecimal() and 0 < int(size) <= limits.OPTION_LENGTH for size in sizes):
        raise ModelError(
            "bad-reference",
            f"input={word[: limits.MESSAGE]} is no shape; write sizes from 1 to {limits.OPTION_LENGTH} without the "
            "batch axis, as in input=3x32x32",
        )
    return tuple(map(int, sizes))
