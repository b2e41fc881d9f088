"""The base of all document models takes nothing but what a field says, and never changes."""

import pytest
from pydantic import ValidationError

from fxgrow.documents import StrictModel
from fxgrow.errors import ArgumentError


class Point(StrictModel):
    """A small model."""

    x: int
    weight: float = 1.0


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"x": "1"}, "int_type"),
        ({"x": True}, "int_type"),
        ({"x": 1, "y": 2}, "extra_forbidden"),
        ({"x": 1, "weight": float("nan")}, "finite_number"),
        ({"x": 1, "weight": float("inf")}, "finite_number"),
    ],
)
def test_it_refuses(fields: dict[str, object], error: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Point(**fields)  # type: ignore[arg-type]
    assert caught.value.code == "bad-setting"
    assert isinstance(caught.value.__cause__, ValidationError)
    assert caught.value.__cause__.errors()[0]["type"] == error


def test_it_is_frozen() -> None:
    point = Point(x=1)
    with pytest.raises(ArgumentError, match="immutable"):
        point.x = 2  # type: ignore[misc]
    assert hash(point) == hash(Point(x=1))
