"""Documents of every version are read: migrations in order, closed fields, and codes with paths for what is wrong."""

import json
from typing import Any, Literal

import pytest

from fxgrow.documents import StrictModel
from fxgrow.documents.document import Document, JsonData
from fxgrow.documents.parsing import parse_yaml
from fxgrow.errors import SpecError


class Note(StrictModel):
    """The third version of a small document."""

    schema_version: Literal[3]
    lines: tuple[str, ...]
    weight: float = 1.0


def one_to_two(data: JsonData) -> JsonData:
    """``text`` becomes ``lines``."""
    rest = {key: value for key, value in data.items() if key != "text"}
    return {**rest, "lines": data["text"].splitlines()}


def two_to_three(data: JsonData) -> JsonData:
    """Grams become kilograms."""
    return {**data, "weight": data.get("weight", 1000) / 1000}


NOTE = Document("note", Note, 3, {1: one_to_two, 2: two_to_three})


@pytest.mark.parametrize(
    "data",
    [
        {"schema_version": 1, "text": "a\nb", "weight": 2500},
        {"schema_version": 2, "lines": ["a", "b"], "weight": 2500},
        {"schema_version": 3, "lines": ["a", "b"], "weight": 2.5},
    ],
    ids=lambda data: data["schema_version"],
)
def test_every_version_is_read(data: JsonData) -> None:
    assert NOTE.read(json.dumps(data)) == Note(schema_version=3, lines=("a", "b"), weight=2.5)


def refused(data: Any, document: Document[Note] = NOTE) -> SpecError:
    with pytest.raises(SpecError) as caught:
        document.read(data if isinstance(data, str) else json.dumps(data), "note.json")
    return caught.value


@pytest.mark.parametrize(
    ("data", "code", "path"),
    [
        ("{", "bad-json", "note.json"),
        ([], "bad-value", "note.json"),
        ({"lines": []}, "missing-key", "schema_version"),
        ({"schema_version": 4, "lines": []}, "schema-version", "schema_version"),
        ({"schema_version": 0, "lines": []}, "schema-version", "schema_version"),
        ({"schema_version": 2.0, "lines": []}, "schema-version", "schema_version"),
        ({"schema_version": True, "text": ""}, "schema-version", "schema_version"),
        ({"schema_version": "3", "lines": []}, "schema-version", "schema_version"),
        ({"schema_version": 3}, "missing-key", "lines"),
        ({"schema_version": 3, "lines": [1]}, "bad-value", "lines.0"),
        ({"schema_version": 3, "lines": [], "weight": "1"}, "bad-value", "weight"),
        ({"schema_version": 3, "lines": [], "text": ""}, "unknown-key", "text"),
        ('{"schema_version": 3, "lines": [], "weight": 1e999}', "not-finite", "weight"),
        ({"schema_version": 1}, "bad-value", ""),
        ({"schema_version": 1, "text": 7}, "bad-value", ""),
        ({"schema_version": 2, "lines": [], "weight": "1"}, "bad-value", ""),
    ],
)
def test_what_is_wrong_has_a_code_and_a_path(data: Any, code: str, path: str) -> None:
    error = refused(data)
    assert (error.code, error.path) == (code, path)


def test_a_newer_version_says_what_to_do() -> None:
    assert str(refused({"schema_version": 4})).endswith(
        "version 4, this fxgrow reads 1 to 3; update fxgrow"
    )


def test_the_same_from_yaml() -> None:
    document = Document("note", Note, 3, NOTE.migrations, parse=parse_yaml)
    assert document.read("schema_version: 2\nlines: [a]\nweight: 2500").weight == 2.5
    assert (refused("[", document).code, refused("[", document).path) == ("bad-yaml", "note.json")
