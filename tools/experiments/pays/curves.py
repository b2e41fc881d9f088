"""Curves over size or FLOPs: their area, and how arms compare over paired seeds."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import mean, stdev
from typing import Any, NamedTuple

Point = tuple[float, float]
"""A place and a value."""


class Estimate(NamedTuple):
    """A mean over seeds and its standard error; infinite for one seed, of which nothing is known."""

    mean: float
    standard_error: float

    @property
    def is_above(self) -> bool:
        """Whether it is above 0 by more than one standard error."""
        return self.mean > self.standard_error

    @property
    def is_below(self) -> bool:
        """Whether it is below 0 by more than one standard error."""
        return -self.mean > self.standard_error


def estimate(values: Sequence[float]) -> Estimate:
    """The mean over seeds and its standard error."""
    spread = stdev(values) if len(values) > 1 else math.inf
    return Estimate(mean(values), spread / len(values) ** 0.5)


def paired(values: Sequence[float], reference: Sequence[float]) -> Estimate:
    """The mean of the differences to a reference with the same seeds, and its standard error."""
    return estimate([one - other for one, other in zip(values, reference, strict=True)])


def value_at(curve: Sequence[Point], place: float) -> float:
    """The value of a piecewise linear curve; beyond its ends, that of the end."""
    for (left, low), (right, high) in pairwise(curve):
        if left <= place <= right:
            share = (place - left) / (right - left) if right > left else 1.0
            return low + share * (high - low)
    return curve[0][1] if place < curve[0][0] else curve[-1][1]


def common_range(curves: Sequence[Sequence[Point]]) -> Point:
    """The places that all curves reach: the largest of the first ones, the least of the last ones."""
    return max(curve[0][0] for curve in curves), min(curve[-1][0] for curve in curves)


def area(curve: Sequence[Point], start: float, end: float) -> float:
    """The mean value of a piecewise linear curve between two places: its area over their distance."""
    if end <= start:
        return value_at(curve, start)
    inside = [place for place, _ in curve if start < place < end]
    places = [start, *inside, end]
    total = 0.0
    for left, right in pairwise(places):
        total += (right - left) * (value_at(curve, left) + value_at(curve, right)) / 2
    return total / (end - start)


def over_size(run: Mapping[str, Any]) -> list[Point]:
    """Accuracy over the logarithm of the number of parameters, at the end of every size."""
    return [(math.log(one["parameters"]), one["accuracy"]) for one in run["stages"]]


def over_flops(run: Mapping[str, Any]) -> list[Point]:
    """Accuracy over FLOPs, at the end of every size."""
    return [(float(one["flops"]), one["accuracy"]) for one in run["stages"]]


def areas(runs: Mapping[str, Sequence[Mapping[str, Any]]], curve_of: Any) -> dict[str, list[float]]:
    """The mean height of every arm's curve, seed by seed, over the range that all arms of a seed reach.

    Args:
        runs: by arm, the runs of all seeds in the same order.
        curve_of: ``over_size`` or ``over_flops``.
    """
    found: dict[str, list[float]] = {arm: [] for arm in runs}
    for of_one_seed in zip(*runs.values(), strict=True):
        curves = [curve_of(run) for run in of_one_seed]
        start, end = common_range(curves)
        for arm, curve in zip(runs, curves, strict=True):
            found[arm].append(area(curve, start, end))
    return found
