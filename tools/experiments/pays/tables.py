"""The tables of all tasks as Markdown."""

from collections.abc import Mapping
from typing import Any

from tools.experiments.pays.analysis import compare

HEAD = """# Does growth, and the choice of neurons, pay?

Written by `python -m tools.experiments.pays` (`make pays`), which says how. CIFAR-10 is a copy that went through JPEG once. Every arm
spends the same FLOPs; its search is among them. *Rate*: the learning rate that was best on other seeds, with ! where that is
the largest or smallest that was tried. *Against*: the mean over the seeds of log(error / error of the first arm), and its standard
error; *worse* and *better* are beyond two of these. *Against the pool*: the same against that arm, a comparison that was added after
the runs. *Search*: its share of the FLOPs. *Saved*: the share of the FLOPs that is left when an arm first has the error that `scratch`
ends with, the mean over seeds of which those that never have it count as 0 (errors are looked at 20 times along a run).

![all tasks](pays.png)
"""


def markdown(tasks: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """One table per task."""
    parts = [HEAD]
    for name, arms in tasks.items():
        seeds = len(next(iter(arms.values()))["errors"])
        head = "| arm | rate | mean error | against | | against the pool | search | saved |"
        rows = [f"## {name}, {seeds} seeds", "", head, "|---|---|---|---|---|---|---|---|"]
        for arm, told in arms.items():
            edge = "!" if told["rate_at_edge"] else ""
            against = _ratio(**told["log_ratio"])
            pooled = ""
            if "pool" in arms:
                pooled = _ratio(*compare(told["errors"], arms["pool"]["errors"]))
            share = f"{100 * told['search_share']:.1f} %"
            saved = f"{100 * told['flops_saved']:.0f} %" if "flops_saved" in told else ""
            rows.append(
                f"| {arm} | {told['rate']}{edge} | {told['mean_error']:.3g} | {against} "
                f"| {told['verdict']} | {pooled} | {share} | {saved} |"
            )
        parts.append("\n".join([*rows, ""]))
    return "\n".join(parts)


def _ratio(mean: float, standard_error: float) -> str:
    return f"{mean:+.3f} ± {standard_error:.3f}"
