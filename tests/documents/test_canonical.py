"""Canonical JSON: one text per value, sorted, broken into lines where it does not fit on one, and no NaN."""

import hashlib
import json
from collections.abc import Callable

import pytest

from fxgrow.documents.canonical import canonical_json, digest
from fxgrow.errors import SpecError


def test_json_is_sorted_broken_at_120_columns_and_ends_with_a_newline() -> None:
    text = canonical_json({"b": [1.0, -0.0, 1e-30], "a": ["x" * 50] * 3}).decode()
    assert text.startswith('{\n "a": [\n  "xxx')
    assert text.endswith('],\n "b": [1.0, -0.0, 1e-30]\n}\n')
    assert max(map(len, text.splitlines())) <= 120
    assert json.loads(text) == {"b": [1.0, -0.0, 1e-30], "a": ["x" * 50] * 3}


def test_a_line_may_take_120_columns_and_no_more() -> None:
    fits, too_long = ["x" * 116], ["x" * 117]
    assert canonical_json(fits).decode() == json.dumps(fits) + "\n"
    assert canonical_json(too_long).decode() == '[\n "' + "x" * 117 + '"\n]\n'


def test_the_digest_is_of_the_sorted_one_line_form() -> None:
    expected = hashlib.sha256('{"a": "é", "b": [1, 2.0]}'.encode()).hexdigest()
    assert digest({"b": [1, 2.0], "a": "é"}) == expected


@pytest.mark.parametrize("write", [canonical_json, digest])
def test_nan_is_refused(write: Callable[[object], object]) -> None:
    with pytest.raises(SpecError, match="NaN") as caught:
        write([float("nan")])
    assert caught.value.code == "not-finite"
