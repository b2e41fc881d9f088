"""Figure 4 of the paper redrawn from committed results: the paper's numbers marked as the paper's, ours as ours.

    python -m tools.experiments.figure4 --out docs/results/figure4.png

(b) needs ``docs/results/step_time.json``; (a) needs ``docs/results/paper/width.json`` and is left out until ``width`` was run.
The paper prints three numbers in (b), in seconds on its machine; they are drawn as ratios to its firefly, as ours are to
ours. Its curves in (a) are a picture without numbers, of which only the sentence is quoted that firefly matches the full
network with 4 % of its size.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.experiments.pays.files import read
from tools.experiments.pays.sizes_picture import curve_on
from tools.experiments.step_time import REFERENCE

PAPER_SIZE = 4.0
"""Percent of the full VGG-19 at which the paper's firefly has its accuracy."""
PAPER_ROWS = {REFERENCE: "firefly", "splitting, exact": "splitting", "NASH": "NASH"}
"""Rows of ``step_time``, and the paper's bars."""


def paper_ratios(step_time: Mapping[str, Any]) -> dict[str, float]:
    """The paper's seconds over those of its firefly, by our row."""
    seconds = step_time["paper_seconds"]
    return {row: seconds[bar] / seconds["firefly"] for row, bar in PAPER_ROWS.items()}


def draw_times(axes: Any, step_time: Mapping[str, Any]) -> None:
    """Figure 4b: bars for the paper's ratios and ours, with the range over our rounds."""
    theirs, rows = paper_ratios(step_time), list(step_time["methods"].items())
    rows.sort(key=lambda row: row[1]["cpu_ratio"])
    for place, (name, told) in enumerate(rows):
        low, high = told["cpu_ratio_range"]
        middle = told["cpu_ratio"]
        reach = [[middle - low], [high - middle]]
        label = f"ours, {step_time['rounds']} rounds" if place == 0 else None
        axes.barh(place - 0.2, middle, 0.4, xerr=reach, capsize=3, color="tab:blue", label=label)
        if name in theirs:
            label = "paper, its machine and code" if name == REFERENCE else None
            axes.barh(place + 0.2, theirs[name], 0.4, color="0.7", hatch="//", label=label)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set(xscale="log", xlabel="time of one growth step over that of firefly")
    axes.set_title("(b) processor time of one growth step")
    axes.legend(loc="lower right", fontsize=8)


def draw_accuracies(axes: Any, width: Mapping[str, Any]) -> None:
    """Figure 4a: our curves over the size in percent of our full network."""
    curve_on(axes, width, "parameters", width["full"]["parameters"] / 100)
    axes.axvline(PAPER_SIZE, color="0.7", linestyle="--", label="paper: as good as full from here")
    settings = width["settings"]
    axes.set(xlabel="parameters, % of the full network", ylabel="test accuracy, %")
    axes.set_title(
        f"(a) {width['data']}, {settings['size']}x{settings['size']} pixels, {settings['seeds']} seeds (ours)"
    )
    axes.legend(fontsize=7)


def draw(step_time: Mapping[str, Any], width: Mapping[str, Any] | None, path: Path) -> None:
    """Write the picture.

    Args:
        step_time: the result of ``step_time``.
        width: that of ``width``; None: it was not run.
        path: of the PNG file.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = 1 if width is None else 2
    figure, axes = plt.subplots(
        1, panels, figsize=(7.5 * panels, 5), layout="constrained", squeeze=False
    )
    if width is not None:
        draw_accuracies(axes[0][0], width)
    draw_times(axes[0][-1], step_time)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Draw from what there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/figure4.png"))
    chosen = parser.parse_args()
    width_file = chosen.results / "paper" / "width.json"
    width = read(width_file) if width_file.exists() else None
    draw(read(chosen.results / "step_time.json"), width, chosen.out)
    print(chosen.out, "" if width else "without (a): width was not run")


if __name__ == "__main__":
    main()
