"""Arguments are held to annotations: what fits passes as it is, what does not is named with its place."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fxgrow.argument_checks import checked, checked_class, find_misfit
from fxgrow.argument_types import Count, Share, Within
from fxgrow.errors import ArgumentError


class Search(Protocol):
    def __call__(self, space: int, *, seed: int) -> int: ...


class Method(Protocol):
    @property
    def name(self) -> str: ...

    def search(self, space: int, *, seed: int = 0) -> int: ...


class Good:
    name = "good"

    def search(self, room: int, *, seed: int = 0, more: int = 0) -> int:
        return room + seed + more


class WithoutSeed(Good):
    def search(self, room: int) -> int:  # type: ignore[override]
        return room


FITS: list[tuple[Any, Any]] = [
    (int, 3), (int, np.int64(3)), (int, -(10**30)), (float, 3), (float, 0.5), (float, Fraction(1, 2)),
    (float, float("nan")), (bool, True), (str, ""), (int | None, None), (Any, object()), (object, 3),
    (Sequence[str], ["a"]), (Sequence[str], ()), (tuple[int, ...], (1, 2)), (tuple[int, str], (1, "a")),
    (Mapping[str, int], {"a": 1}), (dict[str, Any], {}), (frozenset[str], frozenset("a")), (Iterable[int], iter([1])),
    (Iterable[int], range(3)), (Literal["a", 1], 1), (Path, "a"), (Path, Path("a")), (str | Path, "a"),
    (Annotated[int, Within(1, 3)], 3), (list[Annotated[int, Within(1, 3)]], [1, 3]), (Share, 0.5),
    (Callable[[int], int], abs), (Callable[..., int], lambda: 0), (Callable[[Any, Any], Any], nn.functional.mse_loss),
    (Callable[[Tensor], Tensor], nn.Linear(2, 2)), (nn.Module, nn.ReLU()), (Tensor, torch.zeros(1)),
    (Method, Good()), (nn.Module | None, nn.ReLU()),
]  # fmt: skip
MISFITS: list[tuple[Any, Any, str]] = [
    (int, True, "x"), (int, 3.0, "x"), (int, "3", "x"), (int, None, "x"), (float, "3", "x"), (float, True, "x"),
    (float, 1j, "x"), (bool, 1, "x"), (bool, "no", "x"), (str, b"a", "x"), (Sequence[str], "abc", "x"),
    (Sequence[str], ["a", 1], "x[1]"), (Sequence[Sequence[str]], [["a"], "bc"], "x[1]"),
    (Sequence[Sequence[str]], [["a", 1]], "x[0][1]"), (tuple[int, str], (1, 2), "x[1]"), (tuple[int, str], (1,), "x"),
    (tuple[int, ...], [1], "x"), (Mapping[str, int], {"a": "b"}, "x['a']"), (Mapping[str, int], {1: 1}, "a key of x"),
    (Mapping[str, Count], {"a": 0}, "x['a']"), (Iterable[int], 3, "x"), (Iterable[int], "abc", "x"),
    (Literal["a", 1], True, "x"), (Literal["a"], torch.zeros(2), "x"), (Path, "", "x"), (Path, "a\0b", "x"),
    (Path, "\ud800", "x"), (str | Path, "", "x"), (str | Path, 3, "x"), (Annotated[int, Within(1, 3)], 4, "x"),
    (Annotated[float, Within(0, 1)], float("nan"), "x"), (Share, 1.0, "x"), (int | None, "a", "x"),
    (Sequence[str] | None, [1], "x[0]"), (Callable[[int], int], 3, "x"), (Callable[[int], int], lambda: 0, "x"),
    (Callable[[Any, Any], Any], nn.Linear(2, 2), "x"), (nn.Module, nn.ReLU, "x"), (Tensor, np.zeros(1), "x"),
    (Method, WithoutSeed(), "x"), (Method, Good, "x"), (Method, torch.zeros(2), "x"), (Search, object(), "x"),
]  # fmt: skip


@pytest.mark.parametrize(("hint", "value"), FITS)
def test_what_fits(hint: Any, value: Any) -> None:
    assert find_misfit("x", value, hint) is None


@pytest.mark.parametrize(("hint", "value", "place"), MISFITS)
def test_what_does_not_fit(hint: Any, value: Any, place: str) -> None:
    misfit = find_misfit("x", value, hint)
    assert misfit is not None
    assert misfit.name == place


def test_a_sentence_with_offender_and_fix() -> None:
    @checked
    def repeat(word: str, times: Count = 1) -> str:
        return word * times

    assert repeat("a", times=2) == "aa"
    with pytest.raises(ArgumentError) as caught:
        repeat("a", 0)
    assert caught.value.code == "bad-argument"
    assert str(caught.value).endswith(
        "cannot use times=0; give a whole number from 1 to 9007199254740992"
    )
    for kind in (TypeError, ValueError):
        with pytest.raises(kind):
            repeat(b"a")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="missing 1 required"):
        repeat()  # type: ignore[call-arg]


def test_nothing_of_a_wrong_value_is_run() -> None:
    """Not even its ``repr``, which may be long or fail."""

    class Loud:
        def __repr__(self) -> str:
            raise AssertionError

        __len__ = __bool__ = __eq__ = __repr__  # type: ignore[assignment]
        __hash__ = None  # type: ignore[assignment]

    @checked
    def take(value: Sequence[str] | int | None) -> None:
        del value

    with pytest.raises(ArgumentError, match="a value of type Loud"):
        take(Loud())  # type: ignore[arg-type]


def test_a_generator_is_not_consumed() -> None:
    @checked
    def consume(values: Iterable[int]) -> list[int]:
        return list(values)

    assert consume(iter([1, 2])) == [1, 2]


def test_a_text_becomes_a_path() -> None:
    @checked
    def name(path: Path, other: Path | None = None) -> str:
        assert other is None
        return path.name

    assert name("a/b") == "b"  # type: ignore[arg-type]


def test_a_class_is_checked_when_it_is_made() -> None:
    @checked_class
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    assert Point(1).x == 1
    with pytest.raises(ArgumentError, match=r"Point\(\) cannot use x='1'"):
        Point("1")  # type: ignore[arg-type]


def test_a_number_too_long_to_write() -> None:
    @checked
    def small(value: Annotated[int, Within(0, 1)]) -> None:
        del value

    with pytest.raises(ArgumentError, match="very many digits"):
        small(10**10000)
