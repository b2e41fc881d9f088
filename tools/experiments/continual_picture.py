"""The picture of the continual learning experiment: accuracy against size, over tasks, forgetting, cost per task."""

from pathlib import Path
from statistics import mean
from typing import Any

GROWS = "firefly"


def draw_result(rows: list[dict[str, Any]], runs: list[dict[str, Any]], path: Path) -> None:
    """Write the picture of a result (``summary`` and runs of ``continual.py``) to ``path``."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(13, 9), layout="constrained")
    _sizes(axes[0, 0], rows)
    _over_tasks(axes[0, 1], runs)
    _parameters(axes[1, 0], runs)
    _costs(axes[1, 1], runs)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _sizes(axes: Any, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        axes.errorbar(
            row["parameters"], 100 * row["average"], yerr=100 * (row["standard_error"] or 0), marker="o", capsize=3
        )
        axes.annotate(
            row["method"], (row["parameters"], 100 * row["average"]), xytext=(5, 5), textcoords="offset points"
        )
    axes.set(
        xscale="log", xlabel="parameters kept for all tasks", ylabel="test accuracy, %", title="After the last task"
    )


def _over_tasks(axes: Any, runs: list[dict[str, Any]]) -> None:
    """The mean accuracy on the tasks seen so far."""
    for name in dict.fromkeys(run["method"] for run in runs):
        mine = [run["tasks"] for run in runs if run["method"] == name and len(run["tasks"]) > 1]
        if mine:
            curve = [mean(mean(tasks[t]["accuracies"]) for tasks in mine) for t in range(len(mine[0]))]
            axes.plot(range(1, len(curve) + 1), [100 * value for value in curve], label=name)
    axes.set(xlabel="tasks learnt", ylabel="test accuracy, %", title="Mean over the tasks so far")
    axes.legend(fontsize="small")


def _parameters(axes: Any, runs: list[dict[str, Any]]) -> None:
    for name in dict.fromkeys(run["method"] for run in runs):
        mine = [run["tasks"] for run in runs if run["method"] == name and len(run["tasks"]) > 1]
        if mine:
            axes.plot(
                range(1, len(mine[0]) + 1),
                [mean(tasks[t]["parameters"] for tasks in mine) for t in range(len(mine[0]))],
                label=name,
            )
    axes.set(xlabel="tasks learnt", ylabel="parameters", yscale="log", title="Parameters kept")
    axes.legend(fontsize="small")


def _costs(axes: Any, runs: list[dict[str, Any]]) -> None:
    """Processor time of a task, and the multiply-adds of its network, of the method that grows."""
    mine = [run["tasks"] for run in runs if run["method"] == GROWS]
    if not mine:
        return
    tasks = range(1, len(mine[0]) + 1)
    axes.plot(tasks, [mean(run[t - 1]["cpu_seconds"] for run in mine) for t in tasks], label="processor seconds")
    second = axes.twinx()
    adds = [mean(run[t - 1]["details"]["multiply_adds"] for run in mine) / 1e6 for t in tasks]
    second.plot(tasks, adds, color="tab:orange", label="million multiply-adds")
    axes.set(
        xlabel="task", ylabel="processor seconds", title="firefly: cost of a task, and its network", ylim=(0, None)
    )
    second.set(ylabel="million multiply-adds of its network", ylim=(0, None))
    axes.legend(loc="upper left")
    second.legend(loc="lower right")
