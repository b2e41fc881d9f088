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


def best_rate(errors: Mapping[float, Sequence[float]]) -> float:
    """The learning rate of least mean log error."""
    return min(errors, key=lambda rate: mean(map(math.log, errors[rate])))


def summary(
    rate: float, rates: Sequence[float], runs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """One arm of one task in the result."""
    return {
        "rate": rate,
        "rate_at_edge": rate in (min(rates), max(rates)),
        "errors": [run["error"] for run in runs],
        "mean_error": mean(run["error"] for run in runs),
        "search_share": mean(run["search_flops"] / run["flops"] for run in runs),
        "cpu_seconds": mean(run["seconds"] for run in runs),
        "parameters": mean(run["parameters"] for run in runs),
    }


def compared(arms: Mapping[str, dict[str, Any]], reference_arm: str) -> dict[str, dict[str, Any]]:
    """Every arm with its comparison to the reference."""
    reference = arms[reference_arm]["errors"]
    told = {}
    for name, arm in arms.items():
        comparison = compare(arm["errors"], reference)
        against = {"mean": comparison.mean, "standard_error": comparison.standard_error}
        told[name] = {**arm, "log_ratio": against, "verdict": comparison.verdict}
    return told
