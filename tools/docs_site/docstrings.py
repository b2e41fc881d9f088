"""What Griffe, which reads the code for mkdocstrings without running it, has to be told of this house."""

import re
from collections.abc import Iterator
from typing import Any

import griffe

SETTINGS = "fxgrow.documents.settings.Settings"


class HouseDocstrings(griffe.Extension):
    """Examples as programs, and the fields of settings as their arguments."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Name the section of examples as Griffe does; it sets it as a program then."""
        if obj.docstring:
            value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = value

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Give every class of settings the signature that pydantic makes out of its fields."""
        for model in _classes(pkg):
            lineage = [model, *model.mro()]
            if any(parent.path == SETTINGS for parent in lineage[1:]):
                model.set_member("__init__", _constructor(model, lineage))


def _classes(parent: griffe.Object) -> Iterator[griffe.Class]:
    for member in parent.members.values():
        if member.is_alias:
            continue
        if isinstance(member, griffe.Class):
            yield member
        if isinstance(member, griffe.Module | griffe.Class):
            yield from _classes(member)


def _constructor(model: griffe.Class, lineage: list[griffe.Class]) -> griffe.Function:
    parameters: dict[str, griffe.Parameter] = {}
    for parent in reversed(lineage):  # fields of the base come first
        for name, field in parent.attributes.items():
            if _is_field(name, field):
                parameters[name] = griffe.Parameter(
                    name,
                    annotation=field.annotation,
                    kind=griffe.ParameterKind.keyword_only,
                    default=_default(field.value),
                )
    return griffe.Function(
        "__init__", parameters=griffe.Parameters(*parameters.values()), parent=model
    )


def _is_field(name: str, field: griffe.Attribute) -> bool:
    # A constant of the class (``ClassVar``) is none of an instance, and pydantic's own settings have no type.
    is_of_instances = field.annotation is not None and "instance-attribute" in field.labels
    return is_of_instances and not name.startswith("_")


def _default(value: Any) -> Any:
    """The default that a field has, which `Field(default=...)` says among limits."""
    if not (isinstance(value, griffe.ExprCall) and str(value.function) == "Field"):
        return value
    for argument in value.arguments:
        if isinstance(argument, griffe.ExprKeyword) and argument.name == "default":
            return argument.value
    return None
