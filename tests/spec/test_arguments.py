import math
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import fx

from fxgrow.errors import SpecError
from fxgrow.spec.arguments import Argument, argument_text, decode, encode, references


class Pair(NamedTuple):
    first: int


ADAPTER: TypeAdapter[Any] = TypeAdapter(Argument)
PLAIN = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=5)
    | st.sampled_from([torch.float32, torch.bool, torch.device("cuda:1"), torch.channels_last, torch.strided, ...])
)  # fmt: skip
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.builds(slice, inner, inner, inner)
    ),
    max_leaves=8,
)


def through_json(value: object) -> Any:
    text = ADAPTER.dump_json(encode(value))
    return decode(ADAPTER.validate_json(text), str)


@given(VALUES)
def test_every_value_comes_back_through_json_with_its_type(value: object) -> None:
    again = through_json(value)
    assert again == value
    assert repr(again) == repr(value)  # 1 and 1.0 and True, tuple and list


def test_nan_comes_back() -> None:
    assert math.isnan(through_json(math.nan))


@pytest.mark.parametrize(
    "value",
    [torch.zeros(1), object(), {1: 2}, 2**63, 1j, torch.sparse_coo, torch.complex128, len, Pair(1)],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_is_no_data_is_refused(value: object) -> None:
    with pytest.raises(SpecError) as caught:
        encode((value,))
    assert caught.value.code == "bad-argument"


@pytest.mark.parametrize(
    "text",
    [
        '{"tuple": [1], "list": []}',
        '{"eval": "1"}',
        "{}",
        '{"dtype": "object"}',
        '{"device": "cpu; x"}',
        "[1]",
    ],
)
def test_the_union_is_closed(text: str) -> None:
    with pytest.raises(ValueError, match="1 validation error"):
        ADAPTER.validate_json(text)


def test_references_are_found_at_any_depth_and_not_in_strings() -> None:
    graph = fx.Graph()
    x, y = graph.placeholder("x"), graph.placeholder("y")
    argument = encode([x, {"k": slice(y, None, None)}, "x", (x,)])
    assert list(references(argument)) == ["x", "y", "x"]
    assert argument_text(argument) == "[x, {'k': slice(y, None, None)}, 'x', (x,)]"


def test_a_device_that_no_file_may_name_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        encode(torch.device("privateuseone:1"))
    assert caught.value.code == "bad-argument"
