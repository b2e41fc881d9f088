"""Versioned documents: what fxgrow writes carries a ``schema_version``, and every version ever written can be read.

A document says how its text is parsed, which model it has now, and one migration per older version. To change a
model: raise its version, add the migration from the one before, and put a file of that one under ``tests/golden``.
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
_VALIDATION_CODES = {
    "extra_forbidden": "unknown-key",
    "missing": "missing-key",
    "finite_number": "not-finite",
    "string_too_long": "too-large",
    "too_long": "too-large",
}
_OUR_OWN = "Value error, "
"""What pydantic puts before the sentences of our validators."""
# What a migration meets in a file that is not what its version says.
_UNEXPECTED = (LookupError, TypeError, AttributeError, ValueError)


@dataclass(frozen=True)
class Document(Generic[DocumentModel]):
    """One kind of document. ``migrations[n]`` turns the JSON data of version n into that of version n + 1.

    A migration returns new data and leaves the number alone; there is one for every version below ``version``.
    """

    name: str
    model: type[DocumentModel]
    version: int
    migrations: Mapping[int, Migration] = field(default_factory=dict)
    parse: Parse = parse_json

    def read(self, text: str, file: str = "") -> DocumentModel:
        """The document in a text of this version or an older one: right in every field.

        ``file`` is to blame for a text that cannot be parsed. Raises SpecError with code and JSON path: schema-version,
        missing-key, unknown-key, bad-value, not-finite, or what ``parse`` raises.
        """
        data = self._parsed(text, file)
        try:
            # As JSON, where a list may be a tuple; strict, so that nothing else passes for what it is not.
            return self.model.model_validate_json(self._current(text, data), strict=True)
        except ValidationError as error:
            raise as_spec_error(error, self.name, file) from error

    def _parsed(self, text: str, file: str) -> Any:
        try:
            return self.parse(text)
        except SpecError as error:
            if error.path:
                raise
            raise SpecError(error.code, str(error), file) from error

    def _current(self, text: str, data: Any) -> str:
        """The JSON of the present version: mostly the text itself, which may be long."""
        migrated = self._migrated(data)
        return text if migrated is data and self.parse is parse_json else json.dumps(migrated)

    def _migrated(self, data: Any) -> Any:
        """The data in the form of the present version; what has no version is left to the model to refuse."""
        if not isinstance(data, dict) or VERSION not in data:
            return data
        for version in range(self._known(data[VERSION]), self.version):
            try:
                data = {**self.migrations[version](data), VERSION: version + 1}
            except _UNEXPECTED as error:
                raise SpecError(
                    "bad-value",
                    f"it is no {self.name} of version {version}, as it says ({error!r}); save it again",
                ) from error
        return data

    def _known(self, version: object) -> int:
        if type(version) is int and 1 <= version <= self.version:
            return version
        newer = type(version) is int and version > self.version
        advice = "update fxgrow" if newer else f"save the {self.name} again"
        raise SpecError(
            "schema-version",
            f"the {self.name} has version {version!r}, this fxgrow reads 1 to {self.version}; {advice}",
            VERSION,
        )


def as_spec_error(error: ValidationError, name: str, file: str = "") -> SpecError:
    """The first thing that is wrong with a ``name``; ``file`` is the place if it is the whole."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    code = _VALIDATION_CODES.get(first["type"], "bad-value")
    sentence = first["msg"].removeprefix(_OUR_OWN)
    return SpecError(code, f"{sentence}; correct it or save the {name} again", path or file)
