"""The picture of an experiment over sizes: accuracy over parameters and over training FLOPs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.experiments.pays.curves import estimate


def mean_curve(
    runs: Sequence[Sequence[Mapping[str, Any]]], place: str
) -> tuple[list[float], list[float], list[float]]:
    """The stages of all seeds as one curve: mean places, mean accuracies and their standard errors.

    Args:
        runs: the stages of each seed.
        place: the key of what is drawn along.
    """
    places, means, errors = [], [], []
    for of_one_size in zip(*runs, strict=True):
        places.append(estimate([stage[place] for stage in of_one_size]).mean)
        found = estimate([stage["accuracy"] for stage in of_one_size])
        means.append(found.mean)
        errors.append(found.standard_error if len(of_one_size) > 1 else 0.0)
    return places, means, errors


def curve_on(
    axes: Any, record: Mapping[str, Any], place: str, unit: float, scale: float = 100.0
) -> None:
    """Draw the curves of all arms.

    Args:
        axes: of matplotlib.
        record: the result of an experiment.
        place: ``parameters`` or ``flops``.
        unit: of the places.
        scale: of the accuracies.
    """
    for number, (arm, told) in enumerate(record["arms"].items()):
        if "curve" not in told:
            continue
        places, means, errors = mean_curve(told["curve"], place)
        axes.errorbar(
            [one / unit for one in places],
            [scale * one for one in means],
            [scale * one for one in errors],
            label=arm,
            color=f"C{number % 10}",
            linestyle="-" if number < 10 else "--",
            marker="o" if arm == record["reference"] else ".",
            linewidth=2.2 if arm == record["reference"] else 1.0,
            capsize=2,
        )
    full = record["arms"].get("full")
    if full:
        axes.axhline(
            scale * full["final_accuracy"]["mean"], color="0.4", linestyle=":", label="full network"
        )


def draw_sizes(record: Mapping[str, Any], path: Path) -> None:
    """Write the picture of a result to ``path``."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), sharey=True, layout="constrained")
    full = record["full"]
    unit, label = (full["parameters"] / 100, "parameters, % of the full network") if full else (1e3, "thousand parameters")  # fmt: skip
    curve_on(left, record, "parameters", unit)
    curve_on(right, record, "flops", 1e12)
    left.set(xlabel=label, ylabel="test accuracy, %")
    right.set(xlabel="training FLOPs, 10¹², search included")
    right.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))
    seeds = record["settings"]["seeds"]
    figure.suptitle(f"{record['data']}, {seeds} seeds: means, bars: standard error")
    figure.savefig(path, dpi=110)
    plt.close(figure)
