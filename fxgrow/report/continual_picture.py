"""A stream of tasks as a picture: accuracies, parameters, and per width whose the neurons of every task are."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fxgrow.continual import ContinualResult, WidthUse
from fxgrow.documents import FILE_OUTPUT, atomic_path, begins_with, foreign_file, os_errors_as
from fxgrow.errors import RunError
from fxgrow.optional import require

# Told apart without red or green (Okabe, Ito 2008): grey for what is shared, colours for what the task brought.
COLORS: Mapping[str, str] = MappingProxyType(
    {"locked": "#b8bec6", "unlocked": "#e69f00", "new": "#0072b2"}
)
OWN, SHARED = "#56b4e9", "#555555"
COLUMNS = 4
"""Widths beside each other."""
CELL, TOP = 2.5, 3.6
"""Inches: the height of a row of widths, and of what is above them."""
MOST_WORDS, MOST_TICKS = 12, 10
"""More tasks than that have no numbers in the matrix; no axis has more names of tasks than that."""
ROOM = 1.1
"""Of an axis over its highest bar."""
DOTS = 120
_STRANGER = foreign_file(begins_with(b"\x89PNG"))


def draw_continual(result: ContinualResult, path: Path, *, force: bool = False) -> None:
    """Write the picture to ``path`` as PNG; ``force``: replace an earlier one.

    Raises ``RunError``: another ending (``picture-format``), no matplotlib (``missing-extra``), ``path-exists``,
    ``foreign-path``, ``unsafe-path``, ``unwritable-run``.
    """
    if path.suffix.lower() != ".png":
        raise RunError(
            "picture-format",
            f"{path.name} does not end in .png, the only form of this picture; rename it",
        )
    with atomic_path(path, FILE_OUTPUT, _STRANGER, force=force, parents=False) as staging:
        data = _png(result)
        with os_errors_as(path, FILE_OUTPUT):
            staging.write_bytes(data)


def _png(result: ContinualResult) -> bytes:
    """Drawn by Agg on a figure of its own: neither pyplot's state nor a display is touched."""
    figures = require("matplotlib.figure", extra="plot", error=RunError)
    agg = require("matplotlib.backends.backend_agg", extra="plot", error=RunError)
    widths = list(result.outcomes[-1].widths)
    rows = math.ceil(len(widths) / COLUMNS)
    figure = figures.Figure(figsize=(12, TOP + CELL * rows), layout="constrained")
    agg.FigureCanvasAgg(figure)
    top, bottom = figure.subfigures(2, 1, height_ratios=(TOP, CELL * max(rows, 1)))
    left, right = top.subplots(1, 2)
    _matrix(top, left, result)
    _parameters(right, result)
    _widths(bottom, rows, widths, result)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS)
    return buffer.getvalue()


def _matrix(figure: Any, axes: Any, result: ContinualResult) -> None:
    size = len(result.outcomes)
    percents = [
        [*(100 * right for right in row), *[math.nan] * (size - len(row))]
        for row in result.accuracies
    ]
    lowest = min(value for row in percents for value in row if not math.isnan(value))
    image = axes.imshow(percents, cmap="Blues", vmin=min(lowest - 5, 90), vmax=100, aspect="auto")
    figure.colorbar(image, ax=axes, label="%")
    middle = (image.norm.vmin + 100) / 2
    if size <= MOST_WORDS:
        for row, values in enumerate(percents):
            for column, value in enumerate(values[: row + 1]):
                colour = "white" if value > middle else "black"
                axes.text(
                    column, row, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=9
                )
    axes.set(title="Test accuracy", xlabel="of task", ylabel="after task")
    _name_tasks(axes.set_xticks, result)
    _name_tasks(axes.set_yticks, result)
    axes.spines[:].set_visible(False)


def _parameters(axes: Any, result: ContinualResult) -> None:
    places = range(len(result.outcomes))
    axes.bar(
        places,
        [o.network_parameters for o in result.outcomes],
        0.6,
        color=OWN,
        label="the task's own network",
    )
    axes.plot(
        places,
        [o.parameters for o in result.outcomes],
        "o-",
        color=SHARED,
        label="the master network",
    )
    axes.set(title="Parameters", xlabel="task")
    axes.set_ylim(0, 1.3 * max(max(o.parameters, o.network_parameters) for o in result.outcomes))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _name_tasks(axes.set_xticks, result)
    _plain(axes)
    axes.legend(loc="upper left", frameon=False, ncols=2)


def _widths(figure: Any, rows: int, widths: Sequence[str], result: ContinualResult) -> None:
    if not widths:
        return
    grid = list(figure.subplots(rows, min(COLUMNS, len(widths)), squeeze=False).flat)
    for axes in grid[len(widths) :]:
        axes.set_visible(False)
    for axes, width in zip(grid, widths, strict=False):
        _stack(axes, [outcome.widths.get(width) for outcome in result.outcomes])
        _name_tasks(axes.set_xticks, result)
        axes.set_title(f"width {width}", fontsize=10, parse_math=False)
        _plain(axes)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    figure.supxlabel("task", fontsize=10)
    figure.supylabel("neurons of its network", fontsize=10)


def _stack(axes: Any, uses: Sequence[WidthUse | None]) -> None:
    """One bar per task: what is shared below, what it unlocked and added on top."""
    below = [0] * len(uses)
    for kind, colour in COLORS.items():
        heights = [getattr(use, kind) if use else 0 for use in uses]
        axes.bar(range(len(uses)), heights, 0.7, bottom=below, color=colour, label=kind)
        below = [low + height for low, height in zip(below, heights, strict=True)]
    axes.set_ylim(0, ROOM * max(1, *below))
    axes.yaxis.get_major_locator().set_params(integer=True)


def _name_tasks(set_ticks: Any, result: ContinualResult) -> None:
    names = [outcome.task for outcome in result.outcomes]
    step = math.ceil(len(names) / MOST_TICKS)
    set_ticks(range(0, len(names), step), names[::step], parse_math=False)


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
