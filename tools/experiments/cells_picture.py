"""The picture of the cell experiment: channels as they grow, what searches cost, how good the cells are."""

from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any


def draw_result(record: dict[str, Any], path: Path) -> None:
    """Write the picture of a result (the JSON of ``cells.py``) to ``path``."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    _channels(left, record)
    _costs(middle, record)
    _accuracies(right, record)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _channels(axes: Any, record: dict[str, Any]) -> None:
    """The mean channels of every operation, search by search."""
    curves: defaultdict[str, list[list[float]]] = defaultdict(list)
    for search in record["searches"]:
        for operation in sorted(
            {spot.split()[-1] for step in search["grown"] for spot in step["channels"]}
        ):
            curves[operation].append(
                [
                    mean(
                        count
                        for spot, count in step["channels"].items()
                        if spot.endswith(operation)
                    )
                    for step in search["grown"]
                ]
            )
    for operation, runs in curves.items():
        axes.plot([mean(column) for column in zip(*runs, strict=True)], marker="o", label=operation)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(
        xlabel="growth step", ylabel="channels, mean over edges", title="Channels of operations"
    )
    axes.legend()


def _label(search: dict[str, Any]) -> str:
    return f"{search['method']} {search['order'] or ''}".strip()


def _costs(axes: Any, record: dict[str, Any]) -> None:
    labels = list(dict.fromkeys(map(_label, record["searches"])))
    for offset, key, unit in ((-0.2, "cpu_seconds", 1), (0.2, "multiply_adds", 1e9)):
        values = [
            mean(s[key] / unit for s in record["searches"] if _label(s) == label)
            for label in labels
        ]
        axes.bar(
            [i + offset for i in range(len(labels))],
            values,
            0.4,
            label=key.replace("_", " ") + (" / G" if unit > 1 else ""),
        )
    axes.set_xticks(range(len(labels)), labels, rotation=15)
    axes.set(title="Cost of one search", yscale="log")
    axes.margins(y=0.3)  # room for the legend
    axes.legend()


def by_cells(networks: list[dict[str, Any]]) -> dict[str, list[list[dict[str, Any]]]]:
    """The networks of every method, those of the same cells together: they are not independent of each other."""
    found: dict[str, dict[tuple[str, int], list[dict[str, Any]]]] = {}
    for one in networks:
        mine = found.setdefault(one["name"].rstrip("0123456789"), {})
        mine.setdefault((one["name"], one["seed"]), []).append(one)
    return {name: list(cells.values()) for name, cells in found.items()}


def _accuracies(axes: Any, record: dict[str, Any]) -> None:
    """One point per cells, the mean of their networks."""
    found = by_cells(record["networks"])
    for i, cells in enumerate(found.values()):
        values = [100 * mean(row["test_accuracy"] for row in rows) for rows in cells]
        axes.plot([i] * len(values), values, "o", color="tab:gray", alpha=0.6)
        axes.plot([i - 0.2, i + 0.2], [mean(values)] * 2, color="tab:blue", linewidth=2)
    axes.set_xticks(range(len(found)), list(found), rotation=15)
    axes.set(title="Networks of the cells, trained from scratch", ylabel="test accuracy, %")
