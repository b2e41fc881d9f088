"""What the runs say: the analysis that was written before them (see the package's docstring)."""

import math
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any, NamedTuple


class Comparison(NamedTuple):
    """The paired log ratios of an arm's errors to those of the reference."""

    mean: float
    standard_error: float

    @property
    def verdict(self) -> str:
        """Whether the arm is worse than the reference by more than two standard errors, or better."""
        if self.mean > 2 * self.standard_error:
            return "worse"
        return "better" if self.mean < -2 * self.standard_error else "equal"


def compare(errors: Sequence[float], reference: Sequence[float]) -> Comparison:
    """The mean of log(error / reference) over paired seeds, and its standard error."""
    ratios = [math.log(one / other) for one, other in zip(errors, reference, strict=True)]
    spread = stdev(ratios) if len(ratios) > 1 else float("inf")
    return Comparison(mean(ratios), spread / len(ratios) ** 0.5)


class Tuned(NamedTuple):
    """A setting of an arm, and whether it is the largest or smallest that was tried."""

    best: float
    is_at_edge: bool


class Setting(NamedTuple):
    """What is tuned for each arm: its learning rate, and when it grows (``Task.growth_ends``).

    Of arms that do not grow ``growth_ends`` is None.
    """

    rate: Tuned
    growth_ends: Tuned | None


def best_value(errors: Mapping[float, Sequence[float]]) -> float:
    """The value of least mean log error; one at which a run diverges is worse than all."""

    def mean_log(value: float) -> float:
        logs = [math.log(error) for error in errors[value] if math.isfinite(error)]
        return mean(logs) if len(logs) == len(errors[value]) else math.inf

    return min(errors, key=mean_log)


def summary(setting: Setting, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One arm of one task in the result."""
    return {
        "rate": setting.rate.best,
        "rate_at_edge": setting.rate.is_at_edge,
        "growth_ends": setting.growth_ends and setting.growth_ends.best,
        "errors": [run["error"] for run in runs],
        "mean_error": mean(run["error"] for run in runs),
        "search_share": mean(run["search_flops"] / run["flops"] for run in runs),
        "cpu_seconds": mean(run["seconds"] for run in runs),
        "parameters": mean(run["parameters"] for run in runs),
        "curves": [run["curve"] for run in runs],
    }


def flops_saved(curves: Sequence[Sequence[tuple[float, float]]], goals: Sequence[float]) -> float:
    """The share of the FLOPs that is left when a run first has an error that another ends with.

    Args:
        curves: of each seed, (share of the FLOPs, error) along the run.
        goals: of each seed, the error to be reached.

    Returns:
        The mean over the seeds, of which those that never reach it count as 0.
    """
    saved = []
    for curve, goal in zip(curves, goals, strict=True):
        reached = [share for share, error in curve if error <= goal]
        saved.append(max(0.0, 1 - min(reached)) if reached else 0.0)
    return mean(saved)


def compared(arms: Mapping[str, dict[str, Any]], reference_arm: str) -> dict[str, dict[str, Any]]:
    """Every arm with its comparison to the reference."""
    reference = arms[reference_arm]["errors"]
    told = {}
    for name, arm in arms.items():
        comparison = compare(arm["errors"], reference)
        against = {"mean": comparison.mean, "standard_error": comparison.standard_error}
        told[name] = {**arm, "log_ratio": against, "verdict": comparison.verdict}
        if "scratch" in arms:
            told[name]["flops_saved"] = flops_saved(arm["curves"], arms["scratch"]["errors"])
    return told
