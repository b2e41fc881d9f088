"""From text to JSON data: JSON itself, and the part of YAML that says the same. Nothing in a text is executed."""

import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import yaml

from fxgrow.documents import limits
from fxgrow.errors import SpecError

Parse = Callable[[str], Any]


def parse_json(text: str) -> Any:
    """The data in a JSON text. Raises SpecError: bad-json (a repeated key, NaN), too-large, or as ``check_values``."""
    if sum(map(text.count, ",[{")) > limits.VALUES:
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
    """Raises SpecError for deep nesting, deceptive text or infinite numbers: too-deep, bad-text, not-finite."""
    level = [data]
    for _ in range(limits.DEPTH):
        # In one piece: a search per text would take longer than everything else.
        texts = "".join([value for value in level if isinstance(value, str)])
        if _is_odd(texts) or any(_is_odd(value) for value in level if isinstance(value, float)):
            _refuse_odd(data)
        level = [
            item for value in level if isinstance(value, dict | list) for item in _children(value)
        ]
        if not level:
            return
    raise _too_deep()


def _children(value: dict[Any, Any] | list[Any]) -> Iterable[Any]:
    return (*value, *value.values()) if isinstance(value, dict) else value


def _is_odd(value: Any) -> bool:
    if isinstance(value, str):
        return _HIDDEN.search(value) is not None
    return isinstance(value, float) and not math.isfinite(value)


def _refuse_odd(data: Any) -> None:
    """Raises for the first odd value, with its place. A second walk, because keeping places is slow."""
    level: list[tuple[str, Any]] = [("", data)]
    for path, value in level:
        if _is_odd(value) and isinstance(value, str):
            shown = repr(value[: limits.MESSAGE])
            raise SpecError(
                "bad-text", f"{shown} holds characters that deceive readers; remove them", path
            )
        if _is_odd(value):
            raise SpecError(
                "not-finite", "the number is larger than a float can be; correct it", path
            )
        if isinstance(value, dict):
            level += [(path, key) for key in value]
            level += [(f"{path}.{key}".lstrip("."), item) for key, item in value.items()]
        elif isinstance(value, list):
            level += [(f"{path}[{index}]", item) for index, item in enumerate(value)]


# Control characters except tab and line feed, marks that turn the direction of text, and halves of surrogate pairs.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def _too_deep() -> SpecError:
    return SpecError("too-deep", f"it is nested deeper than {limits.DEPTH} levels; write it again")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is repeated")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


# What a word without quotes means: JSON's values. No dates, no octal numbers, and `no` is a word.
_SCALARS = {
    "null": (r"null|~|", ["n", "~", ""]),
    "bool": (r"true|false", ["t", "f"]),
    "int": (r"-?(0|[1-9][0-9]*)", list("-0123456789")),
    "float": (r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", list("-0123456789")),
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the attribute is the base class's

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A dict; the base class would take the last of repeated keys."""
        words = {key.value for key, _ in node.value if key.tag == "tag:yaml.org,2002:str"}
        if len(words) < len(node.value):
            raise _marked("a key is repeated or no word", node)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever our loader, or another one, would not read as a string."""


for _kind in (_Loader, _Dumper):
    for _name, (_pattern, _first) in _SCALARS.items():
        _kind.add_implicit_resolver(
            f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"), _first
        )


def parse_yaml(text: str) -> Any:
    """The JSON data in one YAML document: mappings, lists, strings, numbers, true, false, null.

    Raises SpecError: bad-yaml (anchors, aliases, tags and repeated keys too), too-large, or as ``check_values``.
    """
    if len(text) > limits.YAML_CHARACTERS:
        raise SpecError(
            "too-large",
            f"it has {len(text)} characters, over the limit of {limits.YAML_CHARACTERS}; shorten it",
        )
    try:
        _check_events(text)
        data = yaml.load(text, Loader=_Loader)  # a SafeLoader that knows even less
    except (yaml.YAMLError, ValueError) as error:  # ValueError: more digits than Python converts
        raise SpecError(
            "bad-yaml", f"it is not plain YAML ({' '.join(str(error).split())}); correct it"
        ) from error
    check_values(data)
    return data


def _check_events(text: str) -> None:
    """Before anything is built: aliases can multiply, tags can ask for objects, and depth is recursion."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if count > limits.YAML_VALUES:
            raise SpecError(
                "too-large", f"it holds more than {limits.YAML_VALUES} values; shorten it"
            )
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(
            event, yaml.CollectionEndEvent
        )
        if depth > limits.DEPTH:
            raise _too_deep()
        if getattr(event, "anchor", None) is not None or getattr(event, "tag", None) is not None:
            raise _marked("an anchor, alias or tag", event)


def _marked(problem: str, where: Any) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=where.start_mark)


def yaml_text(data: Any) -> str:
    """JSON data as YAML that ``parse_yaml`` reads back: keys in their order, at most 120 columns where it can be."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
