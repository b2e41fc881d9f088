"""Settings that cannot be are errors of fxgrow, wherever they are made."""

import warnings
from typing import Any, Literal

import pytest

import fxgrow
from fxgrow.cells import Derivation, FireflySearch
from fxgrow.documents import Settings
from fxgrow.errors import ArgumentError, FxgrowError
from fxgrow.training import DataChoice, RunSettings


class Inner(Settings):
    """Nested settings."""

    size: int = 1


class Outer(Settings):
    """Settings with others in them."""

    inner: Inner = Inner()
    share: int | float = 0.5


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"share": "x"}, "share='x'"),
        ({"shar": 1}, "no setting 'shar'; it has inner, share"),
        ({"inner": {"size": "x"}}, "inner.size='x'"),
        ({"inner": {"sise": 1}}, "no setting 'inner.sise'"),
        ({"inner": None}, "inner=None"),
    ],
)
def test_the_first_wrong_value_is_named(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Outer(**wrong)  # type: ignore[arg-type]
    assert caught.value.code == "bad-setting"
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "kind", [fxgrow.Firefly, fxgrow.Scope, RunSettings, DataChoice, fxgrow.Budget]
)
def test_no_error_of_pydantic_gets_out(kind: type[Settings]) -> None:
    with pytest.raises(FxgrowError, match="no setting 'unknown'"):
        kind(unknown=1)


def test_copies_are_checked() -> None:
    settings = RunSettings(epochs=5)
    copy = settings.model_copy(update={"grow_steps": 1})
    assert (copy.epochs, copy.grow_steps) == (5, 1)
    assert settings.model_copy() == settings
    with pytest.raises(FxgrowError, match="grow_steps=-1"):
        settings.model_copy(update={"grow_steps": -1})


def test_old_names_work_for_one_version() -> None:
    with pytest.warns(DeprecationWarning, match="memory= of RunSettings"):
        assert RunSettings(memory=3.0).memory_limit == 3.0  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match="little="):
        assert Derivation(little=0.5).identity_threshold == 0.5  # type: ignore[call-arg]
    with warnings.catch_warnings(), pytest.raises(FxgrowError, match="no setting 'memory'"):
        RunSettings(memory=3.0, memory_limit=3.0)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: fxgrow.Firefly(at=("layer1",)), "layers=0 inserts none"),
        (lambda: fxgrow.Firefly(norm=True), "layers=0 inserts none"),
        (lambda: FireflySearch(layers=2), "the method proposes none"),
        (lambda: FireflySearch(method=fxgrow.Firefly(layers=2)), r"at=\('cells"),
    ],
)
def test_settings_that_contradict_each_other(make: object, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("value", [True, False, (1, True), [False]], ids=str)
def test_a_switch_is_no_number(value: object) -> None:
    """To Python, and to pydantic, True is 1."""

    class Numbers(Settings):
        one: int = 1
        rate: float | None = None
        many: tuple[int, ...] = ()
        switch: bool = False
        either: bool | int = 0
        anything: Any = None
        word: Literal["a", True] = "a"

    name = "one" if isinstance(value, bool) else "many"
    for wrong in {name, "rate" if isinstance(value, bool) else name}:
        with pytest.raises(ArgumentError, match=f"with {wrong}=.*no numbers"):
            Numbers(**{wrong: value})
    if isinstance(value, bool):
        assert Numbers(switch=value, either=value, anything=value).switch is value
        assert Numbers(word=True).word is True
