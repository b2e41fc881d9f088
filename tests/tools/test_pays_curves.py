"""The analysis of the experiments over sizes: curves, areas, pairs and standard errors."""

import math
from typing import Any

import pytest

from tools.experiments.pays.analysis import compare
from tools.experiments.pays.curves import (
    area,
    areas,
    common_range,
    estimate,
    over_flops,
    over_size,
    paired,
    value_at,
)
from tools.experiments.pays.sizes import against_full, markdown, scratch_curve
from tools.experiments.pays.sizes_picture import mean_curve

BENT = [(0.0, 1.0), (1.0, 3.0), (3.0, 3.0)]


def stage(parameters: int, accuracy: float, flops: int = 1) -> dict[str, Any]:
    return {"parameters": parameters, "accuracy": accuracy, "flops": flops}


def grown(*accuracies: float) -> dict[str, Any]:
    stages = [stage(10 * 2**size, one, size + 1) for size, one in enumerate(accuracies)]
    return {"stages": stages, "parameters": stages[-1]["parameters"]}


@pytest.mark.parametrize(
    ("place", "value"), [(-1, 1.0), (0, 1.0), (0.5, 2.0), (1, 3.0), (2, 3.0), (9, 3.0)]
)
def test_values_between_and_beyond_the_points(place: float, value: float) -> None:
    assert value_at(BENT, place) == value


@pytest.mark.parametrize(
    ("start", "end", "height"), [(0, 1, 2.0), (1, 3, 3.0), (0, 3, 8 / 3), (0.5, 1, 2.5), (1, 1, 3.0)]
)  # fmt: skip
def test_the_area_is_a_mean_height(start: float, end: float, height: float) -> None:
    assert area(BENT, start, end) == pytest.approx(height)


def test_curves_are_compared_where_all_are() -> None:
    assert common_range([BENT, [(0.5, 0.0), (2.0, 0.0)]]) == (0.5, 2.0)


def test_the_standard_error_is_that_of_differences() -> None:
    """Differences 1, 2, 3: mean 2, deviation 1, over the root of 3."""
    found = paired([11.0, 22.0, 33.0], [10.0, 20.0, 30.0])
    assert found == pytest.approx((2.0, 3**-0.5))
    assert found.is_above
    assert not found.is_below
    assert paired([1.0, 0.0], [0.0, 1.0]).is_above is False


def test_one_seed_has_no_standard_error() -> None:
    assert estimate([0.5]) == (0.5, math.inf)
    assert not estimate([0.5]).is_above


def test_unequal_seeds_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="zip"):
        compare([1.0], [1.0, 2.0])


def test_areas_are_over_the_logarithm_of_sizes() -> None:
    """Of the sizes 10, 20, 40 the middle one is in the middle; the short arm cuts both at 20."""
    run = grown(0.5, 0.7, 0.9)
    assert over_size(run)[0] == (math.log(10), 0.5)
    alone = areas({"a": [run]}, over_size)
    assert alone["a"] == pytest.approx([0.7])
    both = areas({"a": [run], "b": [grown(0.1, 0.2)]}, over_size)
    assert both["a"] == pytest.approx([0.6])
    assert both["b"] == pytest.approx([0.15])
    assert areas({"a": [run]}, over_flops)["a"] == pytest.approx([0.7])


def test_the_scratch_curve_begins_with_the_trunk() -> None:
    runs = {
        "grows": [grown(0.5, 0.6, 0.7)],
        "scratch": [grown(0.9)],
        "scratch 1": [grown(0.8)],
    }
    (curve,) = scratch_curve(runs, "grows")
    assert [one["accuracy"] for one in curve["stages"]] == [0.5, 0.8, 0.9]
    assert scratch_curve({"grows": runs["grows"]}, "grows") == []


def test_the_full_network_is_compared_with_what_is_small_enough() -> None:
    """Of the sizes 10, 20, 40 the last one has more than a tenth of 300 parameters."""
    full = {"parameters": 300, "stages": [stage(300, 0.65)]}
    found = against_full({"grows": [grown(0.5, 0.6, 0.9)] * 2, "full": [full] * 2}, "grows")
    assert found is not None
    assert found["difference"]["mean"] == pytest.approx(-0.05)
    assert found["share_of_parameters"] == pytest.approx([20 / 300] * 2)
    assert against_full({"grows": []}, "grows") is None


def test_seeds_become_one_curve() -> None:
    runs = [grown(0.4, 0.6)["stages"], grown(0.6, 0.8)["stages"]]
    places, means, errors = mean_curve(runs, "parameters")
    assert places == [10, 20]
    assert means == pytest.approx([0.5, 0.7])
    assert errors == pytest.approx([0.1, 0.1])


def test_the_table_marks_rates_at_the_edge() -> None:
    growth = {"loss_before": 1.0, "loss_after": 0.5, "seconds": 3.0, "flops": 2}
    run = {"stages": [stage(10, 0.5)], "parameters": 1234, "flops": 8, "growths": [growth]}
    told = {
        "rate": 0.1,
        "rate_at_edge": True,
        "final_accuracy": {"mean": 0.5, "standard_error": 0.01},
        "runs": [run],
        "reference_above_over_size": {"mean": 0.02, "standard_error": 0.01},
        "reference_above_over_flops": {"mean": -0.02, "standard_error": 0.05},
    }
    record = {
        "data": "CIFAR-10, JPEG copy",
        "settings": {"epochs": 1, "size": 16, "seeds": 3},
        "reference": "firefly",
        "arms": {"other": told},
        "full": None,
    }
    assert (
        "| other | 0.1! | 50.00 ± 1.00 | 1,234 | +2.00 ± 1.00, above | -2.00 ± 5.00, equal "
        "| 1.000 -> 0.500 | 3.0 s, 25.0 % |" in markdown("width", record, "width")
    )
