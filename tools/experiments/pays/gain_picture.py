"""The picture of README: the loss of a language model that grows, over the FLOPs of its training."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from tools.experiments.pays.analysis import compare


class Line(NamedTuple):
    """How an arm is drawn."""

    label: str
    color: str
    style: str = "-"


LINES: Mapping[str, Line] = {
    "narrow": Line("not grown (1 block, 16 neurons)", "0.55"),
    "scratch": Line("final size from scratch (4 blocks, 96 neurons)", "C1"),
    "with 80 % of the FLOPs": Line("grown, with 80 % of the FLOPs", "C0", "--"),
    "blocks, new": Line("grown at 30 % of the FLOPs", "C0"),
}
"""The arms of ``lm-deep`` that tell the story."""

FIRST = 0.2
"""The share of the FLOPs from where on it is drawn: before, all losses fall steeply."""


def draw_gain(arms: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw the mean loss over the seeds, with a band of two standard errors.

    Args:
        arms: of the result of ``lm-deep``, whose errors are perplexities.
        path: of the picture.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
    for arm, line in LINES.items():
        curves = arms[arm]["curves"]
        along = [share for share, _ in curves[0]]
        shown = [n for n, share in enumerate(along) if share >= FIRST]
        losses = [[math.log(curve[n][1]) for curve in curves] for n in shown]
        x = [along[n] for n in shown]
        middle, reach = [mean(one) for one in losses], [_two_errors(one) for one in losses]
        axes.plot(x, middle, line.style, color=line.color, label=line.label)
        low = [m - r for m, r in zip(middle, reach, strict=True)]
        high = [m + r for m, r in zip(middle, reach, strict=True)]
        axes.fill_between(x, low, high, color=line.color, alpha=0.2, linewidth=0)
    seeds = len(arms["scratch"]["errors"])
    gain = compare(arms["blocks, new"]["errors"], arms["scratch"]["errors"])
    axes.set_title(
        f"A small language model of bytes, {seeds} seeds: grown {gain.mean:+.3f} ± "
        f"{gain.standard_error:.3f} nats against scratch",
        fontsize=10,
    )
    axes.set_xlabel("share of the training FLOPs, growth included")
    axes.set_ylabel("held-out loss (nats per byte)")
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _two_errors(values: Sequence[float]) -> float:
    return 2 * stdev(values) / len(values) ** 0.5
