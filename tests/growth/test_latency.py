"""What can be said of a clock without saying what it shows."""

import math

import pytest
from torch import nn

from fxgrow.coupling import couple
from fxgrow.growth.latency import _MIN_MICROSECONDS, LatencyCost, measure_latency
from tests.networks import images, network


def test_every_growable_width_has_a_price() -> None:
    model, inputs = network("block"), (images(),)
    coupling = couple(model, inputs)
    found = measure_latency(model, coupling, inputs)
    assert list(found.slopes) == [n for n, width in enumerate(coupling.widths) if width.growable]
    assert found.current > 0
    assert math.isfinite(found.measure(dict.fromkeys(found.slopes, 3)))


def test_no_width_is_free_beside_others_that_cost_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A clock that runs backwards for one width."""
    model, inputs = network("chain"), (images(),)
    coupling = couple(model, inputs)
    shown = {0: -50.0, 1: 40.0, 2: 100.0}
    seen = lambda *args: (1000.0, shown[next(iter(args[2]))])  # noqa: E731
    monkeypatch.setattr("fxgrow.growth.latency._difference", seen)
    found = measure_latency(model, coupling, inputs)
    assert found.slopes == {0: pytest.approx(_MIN_MICROSECONDS * 10), 1: 10.0, 2: 20.0}


def test_the_linear_model() -> None:
    model = nn.Identity()
    found = LatencyCost(100.0, {0: 2.0, 3: 0.5}, model, couple(network("block"), (images(),)), ())
    assert found.estimate({0: 2, 3: 4}) == 6
    assert found.estimate({}) == 0
