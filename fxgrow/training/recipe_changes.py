"""A recipe with other values in some of its fields, which are named with dots for nested ones."""

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel

from fxgrow.documents import limits
from fxgrow.errors import ArgumentError, SpecError
from fxgrow.methods import MethodConfig, find_method
from fxgrow.spec import parse_yaml, yaml_text
from fxgrow.training.recipe import RECIPE_DOCUMENT, Recipe


def changed_recipe(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """Set fields of a recipe, and check the whole again as if it came from a file.

    Args:
        recipe: it stays as it is.
        assignments: each a field and its value in YAML: ``settings.lr=0.05``; of two to the same
            field the later one holds.

    Returns:
        The recipe with these values.

    Raises:
        ArgumentError: ``bad-setting``: an assignment has no value, or names no field.
        SpecError: a value is no YAML, or not of its field; and what ``read_recipe`` raises.

    Example:
        >>> changed_recipe(recipe, ["settings.lr=0.05", "budget={neurons: 64}"]).settings.lr
        0.05
    """
    if not assignments:
        return recipe
    # As ``recipe_text`` writes it, so that every setting is there and can be set.
    data = recipe.model_dump(mode="json", exclude_none=True)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ArgumentError(
                "bad-setting",
                f"--set {assignment[:80]!r} has no value; write FIELD=VALUE (settings.lr=0.05)",
            )
        _put(data, key, _value(key, text))
    return RECIPE_DOCUMENT.read(yaml_text(data), "--set")


def _value(key: str, text: str) -> Any:
    try:
        return parse_yaml(text)
    except SpecError as error:
        place = f"--set {key[: limits.NAME]}"
        raise SpecError(error.code, str(error), place) from error


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    """Put a value into nested dictionaries, under a field that recipes have."""
    *outer, last = key.split(".")
    kinds: list[Any] = [Recipe]
    inside = data
    for depth, name in enumerate(outer):
        kinds = _kinds_of(kinds, name, key, inside)
        # A setting without a value (None) is left out of a recipe.
        inside = inside.setdefault(name, {})
        if not isinstance(inside, dict):
            place = ".".join(outer[: depth + 1])
            raise ArgumentError(
                "bad-setting", f"--set {key[: limits.NAME]!r}: {place} has no fields; set it itself"
            )
    _kinds_of(kinds, last, key, inside)
    inside[last] = value


def _kinds_of(kinds: Sequence[Any], name: str, key: str, inside: dict[str, Any]) -> list[Any]:
    """The models that a field of one of these models may hold.

    Args:
        kinds: the models; none where any name is right, as among notes.
        name: of the field.
        key: for the message.
        inside: the data of the model that has the field.
    """
    fields = {}
    for kind in kinds:
        fields.update(kind.model_fields)
    # Nothing is known of what a mapping holds; what is wrong in it is found when all is read.
    if not fields:
        return []
    # Members of a union count alike here; which of them it is, its name says in the end.
    if name not in fields:
        raise _unknown(name, key, list(fields))
    # The settings of a method are those of its class, which is looked up by name.
    if kinds == [MethodConfig] and name == "settings":
        method = inside.get("name", kinds[0].model_fields["name"].default)
        # What is no name is refused when the recipe is read.
        return [find_method(method)] if isinstance(method, str) else []
    return _models(fields[name].annotation)


def _models(annotation: Any) -> list[Any]:
    """The pydantic models in a type: itself, or the members of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    models = []
    for part in get_args(annotation):
        models += _models(part)
    return models


def _unknown(name: str, key: str, known: Sequence[str]) -> ArgumentError:
    key, name = key[: limits.NAME], name[: limits.NAME]
    nearest = difflib.get_close_matches(name, known, n=1)
    advice = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(known)}"
    return ArgumentError(
        "bad-setting", f"--set {key!r}: recipes have no field {name!r} there; {advice}"
    )
