"""A growth method by name with its settings, as recipes and results record it."""

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from fxgrow.documents import Settings
from fxgrow.methods.auto import Auto
from fxgrow.methods.registry import find_method

_SETTINGS_SCHEMA = {
    "type": "object",
    "description": "the settings of the method of that name",
}


class MethodConfig(Settings):
    """A growth method of the registry: one of fxgrow's own, or one that a package declares.

    Args:
        name: the name of the method's class; taken from ``settings`` if that is a method.
        settings: the method, or its settings as a mapping.

    Raises:
        GrowthError: ``unknown-method`` or ``bad-method``, see ``find_method``.

    Example:
        >>> MethodConfig(settings=Firefly(new=4)).name
        'Firefly'
        >>> MethodConfig(name="RandomGrowth").settings
        RandomGrowth(split=True, new=None, eps=0.1, draws=1)
    """

    name: Annotated[str, Field(max_length=512)] = "Auto"
    settings: Annotated[Any, WithJsonSchema(_SETTINGS_SCHEMA)] = Auto()

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        """Take the name from the settings, or the default settings from the name."""
        if not isinstance(data, dict):
            return data
        settings = data.get("settings")
        if isinstance(settings, BaseModel):
            return {"name": type(settings).__name__, **data}
        if settings is None and "name" in data:
            return {**data, "settings": {}}
        return data

    @field_validator("settings", mode="before")
    @classmethod
    def _validate_settings(cls, value: Any, info: ValidationInfo) -> Any:
        name = info.data.get("name")
        if name is None:  # the name itself is wrong, which pydantic reports
            return value
        method = find_method(name)
        if isinstance(value, method):
            return value
        return method.model_validate(value)
