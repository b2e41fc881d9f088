"""Modules that the caller wants left alone."""

import pytest
from torch import nn

from fxgrow.coupling import couple
from fxgrow.errors import ModelError
from tests.coupling.models import VECTOR


def three() -> nn.Module:
    inner = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 5))
    return nn.Sequential(nn.Linear(6, 4), inner, nn.ReLU(), nn.Linear(5, 2))


def growable(**wishes: list[str]) -> set[str]:
    return {width.name for width in couple(three(), (VECTOR,), **wishes).widths if width.growable}


def test_ignored_modules_keep_their_shapes() -> None:
    """Whatever an ignored module reads or writes stays, and a pattern stands for what is inside, too."""
    assert growable() == {"0", "1.0", "1.2"}
    assert growable(ignore=["0"]) == {"1.0", "1.2"}
    assert growable(ignore=["1.0"]) == {"1.2"}
    assert growable(ignore=["1"]) == set()


def test_only_is_about_what_writes() -> None:
    assert growable(only=["1"]) == {"1.0", "1.2"}
    assert growable(only=["1.*"]) == {"1.0", "1.2"}
    assert growable(only=["0", "1.2"]) == {"0", "1.2"}


def test_they_are_refused_by_name() -> None:
    refusal = couple(three(), (VECTOR,), ignore=["0"]).by_name["0"].refusal
    assert refusal is not None and refusal.code == "ignored"


def test_a_misspelt_pattern_is_an_error() -> None:
    with pytest.raises(ModelError, match="leyer") as caught:
        growable(ignore=["leyer*"])
    assert caught.value.code == "unknown-module"
