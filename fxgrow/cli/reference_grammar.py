"""The grammar of model references: ``scheme:name?option=value&...``.

``torchvision:vgg19_bn?num_classes=10&width=0.125&input=3x32x32`` names a constructor and its
options. ``width`` and ``input`` belong to fxgrow, every other option to the constructor.
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

_CONSTANTS: Mapping[str, bool | None] = MappingProxyType(
    {"true": True, "false": False, "none": None}
)
_NUMBER_TYPES = (int, float)


@dataclass(frozen=True)
class Reference:
    """A parsed reference.

    Args:
        scheme: where the model comes from, such as ``torchvision``.
        name: of the model there.
        options: of its constructor, typed.
        width: the factor to scale all widths by; None: as the constructor makes them.
        inputs: shapes of the example inputs without the batch axis; none if not stated.
    """

    scheme: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    width: float | None = None
    inputs: tuple[InputShape, ...] = ()

    @property
    def label(self) -> str:
        """A reference that makes the same constructor call again."""
        values = {option: _format_value(value) for option, value in self.options.items()}
        query = f"?{urlencode(values, safe=',')}" if values else ""
        return f"{self.scheme}:{self.name}{query}"


def parse_reference(scheme: str, rest: str) -> Reference:
    """Parse what follows ``scheme:``.

    Args:
        scheme: the part before the colon.
        rest: the part behind it: ``name?option=value&...``.

    Returns:
        The reference, with typed options.

    Raises:
        ModelError: ``bad-reference`` if it is malformed or too long.
    """
    if len(rest) > limits.REFERENCE:
        raise ModelError(
            "bad-reference",
            f"the reference {rest[:40]!r}... has more than {limits.REFERENCE} characters; "
            "shorten it",
        )
    name, _, query = rest.partition("?")
    if not name:
        raise ModelError(
            "bad-reference", f"the reference {scheme}:{rest} names no model; write {scheme}:NAME"
        )
    words = _split_query(query)
    # These two are fxgrow's own; the constructor does not see them.
    width, inputs = words.pop("width", None), words.pop("input", None)
    return Reference(
        scheme=scheme,
        name=name,
        options={option: _parse_value(word) for option, word in words.items()},
        width=None if width is None else _parse_width(width),
        inputs=() if inputs is None else _parse_shapes(inputs),
    )


def parse_options(query: str) -> dict[str, Any]:
    """Parse ``option=value&...``.

    Args:
        query: the part of a reference behind the question mark.

    Returns:
        Typed values by option.

    Raises:
        ModelError: ``bad-reference`` if it is malformed.
    """
    return {option: _parse_value(word) for option, word in _split_query(query).items()}


def _split_query(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise ModelError(
            "bad-reference",
            f"the options {query[: limits.MESSAGE]!r} cannot be read; write option=value, joined "
            "by &",
        ) from error
    words = dict(pairs)
    if len(words) < len(pairs):
        raise ModelError(
            "bad-reference",
            f"the options {query[: limits.MESSAGE]!r} give one option twice; give each only once",
        )
    return words


def _parse_value(word: str) -> Any:
    """A constant, an integer, another number or a text, in that order; with commas, a tuple."""
    if "," in word:
        return tuple(map(_parse_value, word.split(",")))
    if word.lower() in _CONSTANTS:
        return _CONSTANTS[word.lower()]
    for number_type in _NUMBER_TYPES:
        try:
            return number_type(word)
        except ValueError:
            continue
    return word


def _format_value(value: Any) -> str:
    """The inverse of ``_parse_value``."""
    if isinstance(value, tuple):
        return ",".join(map(_format_value, value))
    is_constant = value is None or isinstance(value, bool)
    return str(value).lower() if is_constant else str(value)


def _parse_width(word: str) -> float:
    value = _parse_value(word)
    # ``bool`` is a subclass of ``int``: width=true would be a factor of 1.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= limits.WIDTH_FACTOR:
        raise ModelError(
            "bad-reference",
            f"width={word[: limits.MESSAGE]} is no factor to scale all widths by; give a number "
            f"above 0 and at most {limits.WIDTH_FACTOR}, as in width=0.5",
        )
    return float(value)


def _parse_shapes(words: str) -> tuple[InputShape, ...]:
    shapes = tuple(map(_parse_shape, words.split(",")))
    # Bounded before any tensor of these shapes is made.
    if sum(map(prod, shapes)) > limits.INPUT_ELEMENTS:
        raise ModelError(
            "bad-reference",
            f"the inputs {words[: limits.MESSAGE]} have more than {limits.INPUT_ELEMENTS} "
            "elements; ask for smaller ones",
        )
    return shapes


def _parse_shape(word: str) -> InputShape:
    sizes = word.split("x")
    if not all(map(_is_size, sizes)):
        raise ModelError(
            "bad-reference",
            f"input={word[: limits.MESSAGE]} is no shape; write sizes from 1 to "
            f"{limits.OPTION_LENGTH} without the batch axis, as in input=3x32x32",
        )
    return tuple(map(int, sizes))


def _is_size(word: str) -> bool:
    return word.isdecimal() and 0 < int(word) <= limits.OPTION_LENGTH
