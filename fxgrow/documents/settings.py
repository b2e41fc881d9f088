"""The base class of all pydantic models of fxgrow: a wrong value is an error of fxgrow."""

import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fxgrow.argument_checks import shown
from fxgrow.documents import limits
from fxgrow.errors import ArgumentError, FxgrowError

Pattern = Annotated[str, Field(max_length=limits.NAME)]
"""A name or a pattern of names as in ``fnmatch``, which takes time by the square of its length."""


class Settings(BaseModel):
    """Base of settings: immutable, and a wrong or unknown value is an error of fxgrow.

    Read as a part of a file (``model_validate``), they leave the error to the reader of the file,
    who knows its place there.

    Raises:
        FxgrowError: what ``_error`` gives; by default an ``ArgumentError`` (``bad-setting``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    old_names: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Per old name of a setting the new one; in Python the old one goes with the next version."""

    def __init__(self, /, **values: Any) -> None:
        renamed = self._renamed(values)
        self._require_numbers(renamed)
        try:
            super().__init__(**renamed)
        except ValidationError as error:
            raise self._error(_sentence(type(self), error)) from error

    # Pydantic then fills in nested settings itself, and collects their errors with their places.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def _renamed(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The values under the present names of the settings."""
        renamed = {}
        for name, value in values.items():
            new = cls.old_names.get(name, name)
            if new != name and new not in values:
                warnings.warn(
                    f"{name}= of {cls.__name__}() is {new}= now; the old name goes with the next "
                    "version",
                    DeprecationWarning,
                    stacklevel=3,
                )
                name = new
            renamed[name] = value
        return renamed

    @classmethod
    def _require_numbers(cls, values: Mapping[str, Any]) -> None:
        """Refuse True and False as numbers: Python counts them as 1 and 0, and pydantic too."""
        if cls.model_config.get("strict"):  # which says so itself
            return
        for name, value in values.items():
            field = cls.model_fields.get(name)
            if field is None or _takes_switch(field.annotation):
                continue
            items = value if isinstance(value, (tuple, list)) else (value,)
            if any(isinstance(item, bool) for item in items):
                raise cls._error(
                    f"{cls.__name__} cannot be made with {name}={shown(value)}: True and False are "
                    "no numbers; give one"
                )

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse: settings are shared, and what was run with them has to stay what it says."""
        raise self._error(
            f"{name[: limits.NAME]} of {type(self).__name__} cannot be set, for it is immutable; "
            "make another one, or use model_copy(update=...)"
        )

    def model_copy(self, *, update: Any = None, deep: bool = False) -> Self:
        """A copy with other values, which are checked as those of a new one.

        Args:
            update: the values by name.
            deep: whether to copy nested settings too.

        Returns:
            The copy.

        Raises:
            FxgrowError: as for the class.
        """
        if not update:
            return super().model_copy(deep=deep)
        values = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**(values | dict(update)))

    @classmethod
    def _error(cls, sentence: str) -> FxgrowError:
        """The error that a wrong value raises."""
        return ArgumentError("bad-setting", sentence)


def _takes_switch(annotation: Any) -> bool:
    """Whether True and False, or values of any kind, may be given where this annotation stands."""
    if annotation in (bool, Any, object):
        return True
    return any(isinstance(part, bool) or _takes_switch(part) for part in get_args(annotation))


# Pydantic puts the member of a union that was tried last into the path of an error.
_UNION_MEMBERS = {"int", "float", "str", "bool"}


def _sentence(kind: type[BaseModel], error: ValidationError) -> str:
    """Name the first wrong value, and what would be right."""
    first = error.errors(include_url=False, include_context=False)[0]
    name = ".".join(str(part) for part in first["loc"] if part not in _UNION_MEMBERS)
    name = name[: limits.NAME]
    if first["type"] == "extra_forbidden":
        known = ", ".join(kind.model_fields)
        return f"{kind.__name__} has no setting {name!r}; it has {known}"
    if first["type"] == "missing":
        return f"{kind.__name__} cannot be made without {name}; give it"
    reason = first["msg"].removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    place = f" with {name}={shown(first['input'])}" if name else ""
    return f"{kind.__name__} cannot be made{place}: {reason}; correct it"
