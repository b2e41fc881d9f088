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

    colours = {row["method"]: plt.get_cmap("tab20")(number) for number, row in enumerate(rows)}
    figure, axes = plt.subplots(2, 2, figsize=(13, 9), layout="constrained")
    _sizes(axes[0, 0], rows, colours)
    accuracy, parameters = axes[0, 1], axes[1, 0]
    for name, tasks in _streams(runs).items():
        learnt = range(1, len(tasks[0]) + 1)
        means = [100 * mean(mean(one[t - 1]["accuracies"]) for one in tasks) for t in learnt]
        accuracy.plot(learnt, means, color=colours[name])
        parameters.plot(
            learnt,
            [mean(one[t - 1]["parameters"] for one in tasks) for t in learnt],
            color=colours[name],
        )
    accuracy.set(
        xlabel="tasks learnt", ylabel="test accuracy, %", title="Mean over the tasks so far"
    )
    parameters.set(
        xlabel="tasks learnt", ylabel="parameters", yscale="log", title="Parameters kept"
    )
    _costs(axes[1, 1], runs)
    for one in (accuracy, parameters, axes[1, 1]):
        one.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside right center", title="method (seeds)"
    )
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _streams(runs: list[dict[str, Any]]) -> dict[str, list[list[dict[str, Any]]]]:
    """The runs of each method that went through the tasks one by one."""
    found: dict[str, list[list[dict[str, Any]]]] = {}
    for run in runs:
        if len(run["tasks"]) > 1:
            found.setdefault(run["method"], []).append(run["tasks"])
    return found


def _sizes(axes: Any, rows: list[dict[str, Any]], colours: dict[str, Any]) -> None:
    for row in rows:
        error = 100 * (row["standard_error"] or 0)
        axes.errorbar(
            row["parameters"], 100 * row["average"], yerr=error, marker="o", capsize=3, linestyle="none",
            color=colours[row["method"]], label=f"{row['method']} ({row['seeds']})",
        )  # fmt: skip
    axes.set(
        xscale="log",
        xlabel="parameters kept for all tasks",
        ylabel="test accuracy, %",
        title="After the last task",
    )


def _costs(axes: Any, runs: list[dict[str, Any]]) -> None:
    """Processor time of a task, and the multiply-adds of its network, of the method that grows."""
    mine = [run["tasks"] for run in runs if run["method"] == GROWS]
    if not mine:
        return
    tasks = range(1, len(mine[0]) + 1)
    axes.plot(
        tasks,
        [mean(run[t - 1]["cpu_seconds"] for run in mine) for t in tasks],
        label="processor seconds",
    )
    second = axes.twinx()
    adds = [mean(run[t - 1]["details"]["multiply_adds"] for run in mine) / 1e6 for t in tasks]
    second.plot(tasks, adds, color="tab:orange", label="million multiply-adds")
    axes.set(
        xlabel="task",
        ylabel="processor seconds",
        title="firefly: cost of a task, and its network",
        ylim=(0, None),
    )
    second.set(ylabel="million multiply-adds of its network", ylim=(0, None))
    axes.legend(loc="upper left")
    second.legend(loc="lower right")
