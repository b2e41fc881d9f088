"""JSON and plain YAML mean the same data; whatever else a text holds is a SpecError."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxgrow.documents import limits
from fxgrow.documents.parsing import parse_json, parse_yaml, yaml_text
from fxgrow.errors import SpecError

WORDS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=6) | st.sampled_from(
    [
        "no",
        "yes",
        "~",
        "null",
        "1e-3",
        "0x10",
        "010",
        "1:30",
        "2020-01-01",
        ".inf",
        "<<",
        "=",
        "- a",
        "a: b",
        "#",
        "&a",
    ]
)
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
)
DATA = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3)
)


@given(DATA)
def test_yaml_round_trip(data: Any) -> None:
    again = parse_yaml(yaml_text(data))
    assert json.dumps(again) == json.dumps(data)  # 1, 1.0 and True are three things


@given(DATA)
def test_json_is_yaml(data: Any) -> None:
    assert parse_json(json.dumps(data)) == data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-2", -2),
        ("2.50", 2.5),
        ("010", "010"),
        ("no", "no"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("", None),
        ("{a: [1, ~]}", {"a": [1, None]}),
        ('{"<<": {"a": 1}}', {"<<": {"a": 1}}),
    ],
)
def test_what_words_mean(text: str, value: object) -> None:
    found = parse_yaml(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: [", "bad-yaml"),
        ("a: 1\na: 2", "bad-yaml"),
        ("? [a]\n: b", "bad-yaml"),
        ("1: a", "bad-yaml"),
        ("&x a", "bad-yaml"),
        ("a: &x [1]\nb: *x", "bad-yaml"),
        ("a: !!python/object/apply:os.system [ls]", "bad-yaml"),
        ("!!timestamp 2020-01-01", "bad-yaml"),
        ("!!binary aGk=", "bad-yaml"),
        ("!!set {a}", "bad-yaml"),
        ("--- 1\n--- 2", "bad-yaml"),
        ("\x00", "bad-yaml"),
        ("1" * 5000, "bad-yaml"),  # more digits than Python converts
        ("1e999", "not-finite"),
        ("[-1e999]", "not-finite"),
        ("[" * 65 + "]" * 65, "too-deep"),
        ("[" * 20_000, "too-deep"),
        ("- " * 20_000, "too-deep"),
        ("a" * (limits.YAML_CHARACTERS + 1), "too-large"),
    ],
)
def test_yaml_that_is_refused(text: str, code: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_yaml(text)
    assert caught.value.code == code


@pytest.mark.parametrize("parse", [parse_json, parse_yaml])
def test_the_depth_limit_is_the_same(parse: Any) -> None:
    assert json.dumps(parse("[" * 64 + "]" * 64)).count("[") == 64
    with pytest.raises(SpecError, match="deeper than 64"):
        parse("[" * 65 + "]" * 65)


@given(st.text(max_size=40) | st.text("[]{}:,-?&*!|>'\"#%@ \n\tab1.e~<=", max_size=40))
def test_no_text_raises_anything_but_spec_error(text: str) -> None:
    for parse in (parse_json, parse_yaml):
        with contextlib.suppress(SpecError):
            parse(text)
