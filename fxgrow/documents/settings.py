"""The base class of settings that callers write down in Python."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from fxgrow.argument_checks import shown
from fxgrow.documents import limits
from fxgrow.errors import FxgrowError, GrowthError


class Settings(BaseModel):
    """Base of settings: immutable, and a wrong or unknown value is an error of fxgrow.

    Read as a part of a file (``model_validate``), they leave the error to the reader of the file,
    who knows its place there.

    Raises:
        FxgrowError: what ``refusal`` gives; by default a ``GrowthError`` (``bad-setting``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise self.refusal(_sentence(type(self), error)) from error

    # Pydantic then fills in nested settings itself, and collects their errors with their places.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def refusal(cls, sentence: str) -> FxgrowError:
        """The error that a wrong value raises."""
        return GrowthError("bad-setting", sentence)


def _sentence(kind: type[BaseModel], error: ValidationError) -> str:
    """Name the first wrong value, and what would be right."""
    first = error.errors(include_url=False, include_context=False)[0]
    name = ".".join(map(str, first["loc"])) or "it"
    if first["type"] == "extra_forbidden":
        known = ", ".join(kind.model_fields)
        return f"{kind.__name__} has no setting {name[: limits.NAME]!r}; it has {known}"
    value = shown(first["input"])
    reason = first["msg"][:1].lower() + first["msg"][1:]
    return f"{kind.__name__} cannot be made with {name}={value}: {reason}; correct it"
