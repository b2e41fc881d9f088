"""The judge of random networks sees what is wrong, and what it once found stays mended."""

from typing import Any

import pytest
from torch import nn

import fxgrow
from tools import random_search

FOUND = {
    555: "a clamp by the size of a dimension changed the function",
    27: "widened, it broke on one example: a branch on the size of the batch",
    47: "grown, it broke on one example",
    775: "coupling compared arrays by ==, an exception of numpy's",
    1308: "a trial growth made a projection wider than its layer, and never succeeded",
    153: "the same beside an einsum and a split by attribute",
}
"""Numbers of networks that came out wrong, and why."""
WIDENED = 1
"""A network that can be widened."""


@pytest.mark.parametrize("number", FOUND)
def test_what_was_found_stays_mended(number: int) -> None:
    assert random_search.judge(number)["failures"] == []


def test_a_wrong_widening_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    widen = fxgrow.widen

    def wrong(*args: Any, **settings: Any) -> Any:
        widened = widen(*args, **settings)
        for module in widened.module.modules():
            if isinstance(module, nn.Linear):
                module.weight.data.mul_(1.001)
        return widened

    monkeypatch.setattr(fxgrow, "widen", wrong)
    failures = random_search.judge(WIDENED)["failures"]
    assert any(failure.startswith("wrong: widen") for failure in failures)
