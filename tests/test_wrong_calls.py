"""No wrong call raises anything but an error of fxgrow: every public function and class, every argument, wrong values."""

import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fxgrow.errors import FxgrowError
from tests.wrong_calls import (
    CALLED_BY_FXGROW,
    OF_THE_CALLER,
    ROWS,
    SAID_BY_GROWTH,
    WRONG_VALUES,
    Right,
    public_callables,
)

CALLABLES = dict(public_callables())


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Right:
    return Right(tmp_path_factory.mktemp("right"))


def test_everything_public_has_a_row() -> None:
    assert CALLABLES.keys() - CALLED_BY_FXGROW == ROWS.keys()


def foreign_error(function: Callable[..., Any], arguments: dict[str, Any]) -> Exception | None:
    """What a call raises that is no error of fxgrow."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = function(**arguments)
            # A context manager does its work when it is entered.
            if hasattr(result, "gen"):
                with contextlib.suppress(FxgrowError), result:
                    pass
    except FxgrowError:
        return None
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return error
    return None


@pytest.mark.parametrize("name", sorted(ROWS))
def test_wrong_values(
    name: str, right: Right, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # texts such as "x" are paths there
    function, row = CALLABLES[name], ROWS[name]
    assert foreign_error(function, dict(row(right))) is None
    failures = []
    for argument in row(right):
        if argument == "self":
            continue
        arguments = dict(row(right))
        for words, make in WRONG_VALUES.items():
            passes_on = (name, argument) in OF_THE_CALLER and callable(make())
            if passes_on or (name, argument) in SAID_BY_GROWTH:
                continue
            error = foreign_error(function, {**arguments, argument: make()})
            if error is not None:
                failures.append(f"{argument} = {words}: {error!r:.150}")
    assert not failures, "\n".join(failures)
