"""What the experiments conclude from their runs."""

import math
from collections.abc import Sequence

import pytest

from tools.experiments.pays.analysis import best_value, flops_saved
from tools.experiments.pays.runs import search_rate


def errors_with_the_least_at(best: float, rate: float) -> Sequence[float]:
    error = 1 + abs(math.log(rate / best))
    return [error, 2 * error]


@pytest.mark.parametrize("best", [0.0003, 0.003, 0.01, 0.3])
def test_a_grid_of_rates_is_made_longer_until_the_best_is_inside(best: float) -> None:
    tried: list[float] = []

    def errors_at(rate: float) -> Sequence[float]:
        tried.append(rate)
        return errors_with_the_least_at(best, rate)

    found = search_rate((0.001, 0.003, 0.01, 0.03), errors_at, extensions=3)
    assert not found.is_at_edge
    assert math.log(found.best / best) == pytest.approx(0, abs=math.log(2))
    assert len(tried) == len(set(tried)) <= 7


def test_a_rate_that_is_at_the_edge_still_is_marked() -> None:
    found = search_rate((0.01, 0.1), lambda rate: [1 / rate], extensions=2)
    assert found == (10.0, True)


def test_a_rate_that_diverges_is_never_the_best() -> None:
    assert best_value({0.1: [2.0, 3.0], 1.0: [1.0, math.nan], 10.0: [math.inf, 0.1]}) == 0.1


def test_flops_are_saved_from_the_first_time_that_a_run_is_as_good() -> None:
    early = [(0.0, 3.0), (0.5, 1.0), (0.75, 2.0), (1.0, 1.0)]
    never = [(0.0, 3.0), (1.0, 2.5)]
    assert flops_saved([early], [1.5]) == 0.5
    assert flops_saved([early, never], [1.5, 2.0]) == 0.25
    assert flops_saved([[(0.0, 3.0), (1.01, 1.0)]], [1.0]) == 0.0
