"""The tables of all tasks as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from tools.experiments.pays.analysis import compare

HEAD = """# Does growth, and the choice of neurons, pay?

Written by `python -m tools.experiments.pays` (`make pays`), which says how. CIFAR-10 is a copy that went through JPEG once. Every arm
spends the same FLOPs, but where its name says less; its search is among them. *Rate*: the learning rate that was best on other seeds, with ! where that is
the largest or smallest that was tried. *Grows until*: likewise the share of the FLOPs after which nothing grows, of several that were tried where a task says so. *Against*: the mean over the seeds of log(error / error of an arm), and its standard
error; *worse* and *better* than the first arm are beyond two of these. *Search*: its share of the FLOPs. *Saved*: the share of the FLOPs that is left when an arm first has the error that `scratch`
ends with, the mean over seeds of which those that never have it count as 0 (errors are looked at 20 times along a run). Rates fall late in a run, so
that counts little; arms with a share of the FLOPs, whose rates fall earlier, say it better.

The tables of `rbf` and `image` are older than the rest: nothing grows after 60 % of the FLOPs there, and the optimizers begin anew after growth but in the
arms that name a rule.

![all tasks](pays.png)
"""
REFERENCES = ("scratch",)
"""Arms that all others are compared with, beside the first one."""


def markdown(tasks: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """One table per task."""
    parts = [HEAD]
    for name, arms in tasks.items():
        seeds = len(next(iter(arms.values()))["errors"])
        references = [arm for arm in REFERENCES if arm in arms]
        against = [f"against {arm}" for arm in (next(iter(arms)), *references)]
        head = ["arm", "rate", "grows until", "mean error", against[0], "", *against[1:]]
        head += ["search", "saved"]
        rows = [f"## {name}, {seeds} seeds", "", _row(head), "|---" * len(head) + "|"]
        for arm, told in arms.items():
            edge = "!" if told["rate_at_edge"] else ""
            ratios = [_ratio(*compare(told["errors"], arms[one]["errors"])) for one in references]
            saved = f"{100 * told['flops_saved']:.0f} %" if "flops_saved" in told else ""
            moment = told.get("growth_ends") or ""
            cells = [arm, f"{told['rate']}{edge}", f"{moment}", f"{told['mean_error']:.3g}"]
            cells += [_ratio(**told["log_ratio"]), told["verdict"], *ratios]
            cells += [f"{100 * told['search_share']:.1f} %", saved]
            rows.append(_row(cells))
        parts.append("\n".join([*rows, ""]))
    return "\n".join(parts)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ratio(mean: float, standard_error: float) -> str:
    return f"{mean:+.3f} ± {standard_error:.3f}"
