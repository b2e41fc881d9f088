"""Records that hold arrays are told apart by identity: ``==`` of arrays is no truth value."""

import dataclasses
import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module

import pytest

import fxgrow.coupling


def records() -> Iterator[type]:
    for found in pkgutil.walk_packages(fxgrow.coupling.__path__, "fxgrow.coupling."):
        for _, kind in inspect.getmembers(import_module(found.name), inspect.isclass):
            if kind.__module__ == found.name and dataclasses.is_dataclass(kind):
                yield kind


HOLDS_ARRAYS = [
    kind
    for kind in records()
    if any(
        word in str(field.type)
        for field in dataclasses.fields(kind)
        for word in ("Ints", "ndarray", "Tensor")
    )
    and kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
]


@pytest.mark.parametrize("kind", HOLDS_ARRAYS, ids=lambda kind: kind.__name__)
def test_they_are_equal_to_themselves_alone(kind: type) -> None:
    assert "__eq__" not in vars(kind)


def test_there_are_such_records() -> None:
    assert len(HOLDS_ARRAYS) > 10
