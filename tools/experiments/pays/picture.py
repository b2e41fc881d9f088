"""The picture of the experiment: per task the errors of every arm over those of firefly."""

import math
from pathlib import Path
from typing import Any


def draw(result: dict[str, Any], path: Path) -> None:
    """Write the picture of a result to ``path``."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    tasks = result["tasks"]
    figure, all_axes = plt.subplots(
        1, len(tasks), figsize=(3.4 * len(tasks), 3.6), layout="constrained", squeeze=False
    )
    for axes, (name, arms) in zip(all_axes[0], tasks.items(), strict=True):
        for place, told in enumerate(arms.values()):
            reference = next(iter(arms.values()))["errors"]  # the reference is the first arm
            pairs = zip(told["errors"], reference, strict=True)
            ratios = [math.log(one / other) for one, other in pairs]
            axes.plot([place] * len(ratios), ratios, "o", color="0.7", markersize=4)
            log_ratio = told["log_ratio"]
            axes.errorbar(
                place,
                log_ratio["mean"],
                2 * log_ratio["standard_error"],
                fmt="s",
                color="C0",
                capsize=4,
            )
        axes.axhline(0, color="0.5", linewidth=0.8)
        axes.set_xticks(range(len(arms)), list(arms), rotation=60, ha="right")
        axes.set_title(f"{name}, {len(next(iter(arms.values()))['errors'])} seeds")
    all_axes[0][0].set_ylabel("log(error / error of the first arm), 2 s.e.")
    figure.savefig(path, dpi=110)
    plt.close(figure)
