"""From text to JSON data: JSON itself, and the part of YAML that means the same.

Nothing in a text is executed.
"""

import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import yaml

from fxgrow.documents import limits
from fxgrow.errors import SpecError

Parse = Callable[[str], Any]

# Control characters except tab and line feed, marks that turn the direction of text, and halves of
# surrogate pairs.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def parse_json(text: str) -> Any:
    """Return the data in a JSON text.

    Raises:
        SpecError: ``bad-json`` (repeated keys and NaN too), ``too-large``, or the errors of
            ``check_values``.
    """
    # Every value but the first follows a comma or an opening bracket, so this needs no parsing.
    if text.count(",") + text.count("[") + text.count("{") > limits.VALUES:
        raise SpecError("too-large", f"it holds more than {limits.VALUES} values; write it again")
    try:
        data = json.loads(text, object_pairs_hook=_no_repeats, parse_constant=_no_constant)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise SpecError("bad-json", f"it is not JSON ({error}); write it again") from error
    check_values(data)
    return data


def check_values(data: Any) -> None:
    """Check JSON data for deep nesting, deceptive text and infinite numbers, level by level.

    Raises:
        SpecError: ``too-deep``, ``bad-text`` or ``not-finite``, with the path of the value.
    """
    level = [data]
    for _ in range(limits.DEPTH):
        # All texts of a level at once: a search per text would take longer than everything else.
        texts = "".join([value for value in level if isinstance(value, str)])
        if _is_bad(texts) or any(map(_is_bad_number, level)):
            _raise_first_bad(data)
        next_level: list[Any] = []
        for value in level:
            next_level.extend(_children(value))
        if not next_level:
            return
        level = next_level
    raise _too_deep()


def _children(value: Any) -> Iterable[Any]:
    """Return the items of a list, the keys and values of a dictionary, nothing of other data."""
    if isinstance(value, dict):
        return (*value, *value.values())
    return value if isinstance(value, list) else ()


def _is_bad(value: Any) -> bool:
    if isinstance(value, str):
        return _HIDDEN.search(value) is not None
    return _is_bad_number(value)


def _is_bad_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _raise_first_bad(data: Any) -> None:
    """Raise for the first bad value, with its path.

    This is a second pass over the data, because keeping track of paths is slow.
    """
    queue: list[tuple[str, Any]] = [("", data)]
    for path, value in queue:  # grows while it is read: breadth first
        if _is_bad(value) and isinstance(value, str):
            shown = repr(value[: limits.MESSAGE])
            raise SpecError(
                "bad-text", f"{shown} holds characters that deceive readers; remove them", path
            )
        if _is_bad(value):
            raise SpecError(
                "not-finite", "the number is larger than a float can be; correct it", path
            )
        if isinstance(value, dict):
            queue += [(path, key) for key in value]
            queue += [(f"{path}.{key}".lstrip("."), item) for key, item in value.items()]
        elif isinstance(value, list):
            queue += [(f"{path}[{index}]", item) for index, item in enumerate(value)]


def _too_deep() -> SpecError:
    return SpecError("too-deep", f"it is nested deeper than {limits.DEPTH} levels; write it again")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a key is repeated")
    return mapping


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


# What a YAML word without quotes means: a JSON value. There are no dates and no octal numbers, and
# `no` is a word. Each row: name of the type -> pattern of its words, their possible first letters
# (PyYAML looks the pattern up by these).
_SCALARS = {
    "null": (r"null|~|", ["n", "~", ""]),
    "bool": (r"true|false", ["t", "f"]),
    "int": (r"-?(0|[1-9][0-9]*)", list("-0123456789")),
    "float": (r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", list("-0123456789")),
}


class _Loader(yaml.SafeLoader):
    """A SafeLoader that resolves the words of ``_SCALARS`` alone."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the attribute is the base class's

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Build a dict; the base class would silently take the last of repeated keys."""
        words = {key.value for key, _ in node.value if key.tag == "tag:yaml.org,2002:str"}
        if len(words) < len(node.value):
            raise _marked_error("a key is repeated or no word", node)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes every string that our loader, or another one, would not read as a string."""


for _kind in (_Loader, _Dumper):
    for _name, (_pattern, _first_letters) in _SCALARS.items():
        _kind.add_implicit_resolver(
            f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"), _first_letters
        )


def parse_yaml(text: str) -> Any:
    """Return the JSON data in a YAML document: mappings, lists, strings, numbers, booleans, null.

    Raises:
        SpecError: ``bad-yaml`` (anchors, aliases, tags and repeated keys too), ``too-large``, or
            the errors of ``check_values``.
    """
    if len(text) > limits.YAML_CHARACTERS:
        raise SpecError(
            "too-large",
            f"it has {len(text)} characters, over the limit of {limits.YAML_CHARACTERS}; "
            "shorten it",
        )
    try:
        _check_events(text)
        data = yaml.load(text, Loader=_Loader)  # safe: _Loader is a SafeLoader
    except (yaml.YAMLError, ValueError) as error:  # ValueError: more digits than Python converts
        raise SpecError(
            "bad-yaml", f"it is not plain YAML ({' '.join(str(error).split())}); correct it"
        ) from error
    check_values(data)
    return data


def _check_events(text: str) -> None:
    """Check the parser's events before anything is built from them.

    Aliases can multiply, tags can ask for objects, and depth becomes recursion.
    """
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if count > limits.YAML_VALUES:
            raise SpecError(
                "too-large", f"it holds more than {limits.YAML_VALUES} values; shorten it"
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > limits.DEPTH:
            raise _too_deep()
        if getattr(event, "anchor", None) is not None or getattr(event, "tag", None) is not None:
            raise _marked_error("an anchor, alias or tag", event)


def _marked_error(problem: str, where: Any) -> yaml.YAMLError:
    """Return an error whose message holds the line and column of ``where``."""
    return yaml.MarkedYAMLError(problem=problem, problem_mark=where.start_mark)


def yaml_text(data: Any) -> str:
    """Return JSON data as YAML that ``parse_yaml`` reads back.

    Keys keep their order; lines have at most 120 columns where that is possible.
    """
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
