"""Versioned documents: files carry a ``schema_version``, and every version ever written is read.

A ``Document`` holds the parser of its text, its present model, and one migration per older
version. To change a model: raise the version, add the migration from the previous one, and put a
file of the previous version under ``tests/golden``.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from fxgrow.documents.parsing import Parse, parse_json
from fxgrow.errors import SpecError

DocumentModel = TypeVar("DocumentModel", bound=BaseModel)
JsonData = dict[str, Any]
Migration = Callable[[JsonData], JsonData]

VERSION = "schema_version"
# Pydantic's error type -> our code; every other type is bad-value.
_VALIDATION_CODES = {
    "extra_forbidden": "unknown-key",
    "missing": "missing-key",
    "finite_number": "not-finite",
    "string_too_long": "too-large",
    "too_long": "too-large",
}
# What pydantic puts before the messages of our own validators.
_VALIDATOR_PREFIX = "Value error, "
# What a migration raises for data that is not what its version claims.
_MIGRATION_ERRORS = (LookupError, TypeError, AttributeError, ValueError)


@dataclass(frozen=True)
class Document(Generic[DocumentModel]):
    """One kind of document.

    Args:
        name: what messages call it ("recipe").
        model: the pydantic model of the present version.
        version: the present version.
        migrations: for every older version n, a function from the JSON data of version n to that
            of n + 1. It returns new data, and leaves the version number alone.
        parse: from text to JSON data.
    """

    name: str
    model: type[DocumentModel]
    version: int
    migrations: Mapping[int, Migration] = field(default_factory=dict)
    parse: Parse = parse_json

    def read(self, text: str, file: str = "") -> DocumentModel:
        """Read a text of this version or an older one, and check every field.

        Args:
            text: the document.
            file: named by the error if the text cannot be parsed at all.

        Raises:
            SpecError: with code and JSON path: ``schema-version``, ``missing-key``,
                ``unknown-key``, ``bad-value``, ``not-finite``, ``too-large``, or what ``parse``
                raises.
        """
        data = self._parse(text, file)
        try:
            # As JSON, where a list may become a tuple; strict, so that no other type is converted.
            return self.model.model_validate_json(self._current_json(text, data), strict=True)
        except ValidationError as error:
            raise as_spec_error(error, self.name, file) from error

    def _parse(self, text: str, file: str) -> Any:
        try:
            return self.parse(text)
        except SpecError as error:
            if error.path:
                raise
            raise SpecError(error.code, str(error), file) from error

    def _current_json(self, text: str, data: Any) -> str:
        """Return the JSON text of the present version."""
        migrated = self._migrate(data)
        # Mostly that is the text itself, which may be long, so it is not written anew.
        is_current_json = migrated is data and self.parse is parse_json
        return text if is_current_json else json.dumps(migrated)

    def _migrate(self, data: Any) -> Any:
        """Convert data to the present version; data without a version is left to the model."""
        if not isinstance(data, dict) or VERSION not in data:
            return data
        for version in range(self._checked_version(data[VERSION]), self.version):
            try:
                data = {**self.migrations[version](data), VERSION: version + 1}
            except _MIGRATION_ERRORS as error:
                raise SpecError(
                    "bad-value",
                    f"it is no {self.name} of version {version}, as it says ({error!r}); "
                    "save it again",
                ) from error
        return data

    def _checked_version(self, version: object) -> int:
        # The exact type, for True is an int.
        if type(version) is int and 1 <= version <= self.version:
            return version
        is_newer = type(version) is int and version > self.version
        advice = "update fxgrow" if is_newer else f"save the {self.name} again"
        raise SpecError(
            "schema-version",
            f"the {self.name} has version {version!r}, this fxgrow reads 1 to {self.version}; "
            f"{advice}",
            VERSION,
        )


def as_spec_error(error: ValidationError, name: str, file: str = "") -> SpecError:
    """Turn the first error of a validation into a SpecError.

    Args:
        error: what pydantic raised.
        name: what messages call the document.
        file: the place of an error that concerns the whole document.
    """
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    path = ".".join(map(str, first["loc"]))
    code = _VALIDATION_CODES.get(first["type"], "bad-value")
    sentence = first["msg"].removeprefix(_VALIDATOR_PREFIX)
    return SpecError(code, f"{sentence}; correct it or save the {name} again", path or file)
