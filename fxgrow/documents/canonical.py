"""Canonical JSON: exactly one text per JSON value, so that files diff well and hashes agree.

Keys are sorted and floats are printed at their shortest. The layout breaks a value over several
lines only where it does not fit on one; a digest is taken of the one-line form.
"""

import hashlib
import json
from typing import Any

from fxgrow.errors import SpecError

# Part of the format: another number would change the text of every document.
_MAX_COLUMNS = 120


def canonical_json(value: Any) -> bytes:
    """Write JSON data as canonical UTF-8 JSON.

    Keys are sorted, floats are printed at their shortest, a value stays on one line where it fits
    in 120 columns, and the text ends with a newline.

    Args:
        value: JSON data: dicts with string keys, lists, strings, numbers, booleans and None.

    Returns:
        The encoded text.

    Raises:
        SpecError: ``not-finite`` for NaN and infinities.

    Example:
        >>> print(canonical_json({"b": [1, 2.0], "a": None}).decode(), end="")
        {"a": null, "b": [1, 2.0]}
    """
    text = _layout(value, indent="") + "\n"
    return text.encode()


def digest(value: Any) -> str:
    """Hash JSON data by its canonical form.

    Args:
        value: JSON data, as for ``canonical_json``.

    Returns:
        The SHA-256 of the one-line JSON of ``value``, as 64 hexadecimal digits.

    Raises:
        SpecError: ``not-finite`` for NaN and infinities.
    """
    return hashlib.sha256(_one_line(value).encode()).hexdigest()


def _one_line(value: Any) -> str:
    try:
        return json.dumps(
            value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(", ", ": ")
        )
    except ValueError as error:
        raise SpecError(
            "not-finite", "NaN or infinity cannot be written to a spec; leave the number out"
        ) from error


def _layout(value: Any, indent: str) -> str:
    """The text of ``value``: one line if it fits behind ``indent``, else one line per item."""
    line = _one_line(value)
    fits = len(indent) + len(line) <= _MAX_COLUMNS
    if fits or not isinstance(value, dict | list) or not value:
        return line
    # One space per level: deep graphs stay narrow.
    inner = indent + " "
    lines: list[str] = []
    if isinstance(value, list):
        for item in value:
            lines.append(inner + _layout(item, inner))
        opening, closing = "[", "]"
    else:
        for key in sorted(value):
            lines.append(f"{inner}{_one_line(key)}: {_layout(value[key], inner)}")
        opening, closing = "{", "}"
    return f"{opening}\n" + ",\n".join(lines) + f"\n{indent}{closing}"
