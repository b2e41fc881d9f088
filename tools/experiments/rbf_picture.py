"""The picture of the toy experiment: six methods on the left, m' on the right; means and standard errors."""

from pathlib import Path
from typing import Any

Line = dict[str, Any]
STYLES = {
    "scratch": ("tab:gray", "s"),
    "random (split)": ("tab:orange", "v"),
    "splitting": ("tab:green", "^"),
    "firefly (split)": ("tab:cyan", "D"),
    "random (split+new)": ("tab:red", "o"),
    "firefly": ("tab:blue", "*"),
}


def draw(result: dict[str, Any], path: Path) -> None:
    """Write the picture of a result (the JSON of ``rbf.py``) to ``path``."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), sharey=True, layout="constrained")
    for i, (name, curve) in enumerate(result["curves"].items()):
        color, marker = STYLES[name]
        style = {"label": name, "color": color, "marker": marker, "fillstyle": "none"}
        _line(left, curve, result["errors"][name], i - (len(STYLES) - 1) / 2, style)
    shades = plt.get_cmap("viridis_r")
    for i, (count, curve) in enumerate(result["m_prime"].items()):
        color = shades(0.1 + 0.85 * i / (len(result["m_prime"]) - 1))
        style = {"label": f"m' = {count}", "color": color, "marker": "o"}
        _line(
            right,
            curve,
            result["m_prime_errors"][count],
            i - (len(result["m_prime"]) - 1) / 2,
            style,
        )
    left.set_title("methods (firefly: m' = 20)")
    right.set_title("firefly with m' new-neuron candidates")
    left.set_ylabel("training loss (targets of variance 1)")
    for axes in (left, right):
        axes.set(yscale="log", xlabel="neurons", xticks=range(1, 11))
        axes.grid(which="major", alpha=0.3)
        axes.legend(fontsize=9, loc="lower left")
    figure.suptitle(
        f"RBF network grown 1 to 10 neurons: mean over {result['seeds']} ground truths, bars: standard error"
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _line(axes: Any, curve: list[float], errors: list[float], shift: float, style: Line) -> None:
    """A curve with bars, beside those that lie on it; the lower bar ends above 0, which a log axis cannot show."""
    places = [size + 0.07 * shift for size in range(1, len(curve) + 1)]
    below = [min(error, 0.9 * value) for value, error in zip(curve, errors, strict=True)]
    axes.errorbar(
        places,
        curve,
        yerr=[below, errors],
        capsize=2,
        linewidth=1.2,
        elinewidth=0.8,
        markersize=6,
        **style,
    )
