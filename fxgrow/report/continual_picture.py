"""A stream of tasks as a picture.

Accuracies, parameters, and per width which neurons every task shares, unlocked and added.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fxgrow.continual import ContinualResult, WidthUse
from fxgrow.documents import FILE_OUTPUT, atomic_path, begins_with, foreign_file, os_errors_as
from fxgrow.errors import RunError
from fxgrow.optional import require

# Told apart without red or green (Okabe, Ito 2008): gray for what is shared, colors for what the
# task brought.
COLORS: Mapping[str, str] = MappingProxyType(
    {"locked": "#b8bec6", "unlocked": "#e69f00", "new": "#0072b2"}
)
OWN, SHARED = "#56b4e9", "#555555"
# Widths beside each other.
COLUMNS = 4
# Inches: the height of a row of widths, and of what is above them.
ROW_HEIGHT, TOP_HEIGHT = 2.5, 3.6
# With more tasks than that, the matrix shows no numbers.
MAX_WRITTEN_TASKS = 12
# No axis names more tasks than that.
MAX_TICKS = 10
# How far an axis of bars goes, relative to its highest bar.
HEADROOM = 1.1
DOTS_PER_INCH = 120
_FOREIGN = foreign_file(begins_with(b"\x89PNG"))


def draw_continual(result: ContinualResult, path: Path, *, force: bool = False) -> None:
    """Write the picture of a stream as PNG.

    Args:
        result: the stream, with at least one learned task.
        path: the file to write; its name ends in ``.png``.
        force: replace an earlier picture.

    Raises:
        RunError: another ending (``picture-format``), no matplotlib (``missing-extra``),
            ``path-exists``, ``foreign-path``, ``unsafe-path``, ``unwritable-run``.
    """
    if path.suffix.lower() != ".png":
        raise RunError(
            "picture-format",
            f"{path.name} does not end in .png, the only form of this picture; rename it",
        )
    with atomic_path(path, FILE_OUTPUT, _FOREIGN, force=force, parents=False) as staging:
        data = _png(result)
        with os_errors_as(path, FILE_OUTPUT):
            staging.write_bytes(data)


def _png(result: ContinualResult) -> bytes:
    """Drawn by Agg on a figure of its own: neither pyplot's state nor a display is touched."""
    figures = require("matplotlib.figure", extra="plot", error=RunError)
    agg = require("matplotlib.backends.backend_agg", extra="plot", error=RunError)
    widths = list(result.outcomes[-1].widths)
    rows = math.ceil(len(widths) / COLUMNS)
    figure = figures.Figure(figsize=(12, TOP_HEIGHT + ROW_HEIGHT * rows), layout="constrained")
    agg.FigureCanvasAgg(figure)
    heights = (TOP_HEIGHT, ROW_HEIGHT * max(rows, 1))
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    left, right = top.subplots(1, 2)
    _draw_accuracies(top, left, result)
    _draw_parameters(right, result)
    _draw_widths(bottom, rows, widths, result)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


def _draw_accuracies(figure: Any, axes: Any, result: ContinualResult) -> None:
    """The accuracy of every task (columns) after every task (rows), as a triangle of squares."""
    size = len(result.outcomes)
    percents = []
    lowest = 100.0
    for accuracies in result.accuracies:
        known = [100 * accuracy for accuracy in accuracies]
        lowest = min([lowest, *known])
        # matplotlib leaves a square of NaN empty.
        percents.append([*known, *[math.nan] * (size - len(known))])
    # Colors start five points below the lowest accuracy, and no higher than at 90 %.
    image = axes.imshow(percents, cmap="Blues", vmin=min(lowest - 5, 90), vmax=100, aspect="auto")
    figure.colorbar(image, ax=axes, label="%")
    if size <= MAX_WRITTEN_TASKS:
        _write_numbers(axes, percents, middle=(image.norm.vmin + 100) / 2)
    axes.set(title="Test accuracy", xlabel="of task", ylabel="after task")
    _name_tasks(axes.set_xticks, result)
    _name_tasks(axes.set_yticks, result)
    axes.spines[:].set_visible(False)


def _write_numbers(axes: Any, percents: Sequence[Sequence[float]], middle: float) -> None:
    """A number in every square, in the color that stands out from its background."""
    for row, values in enumerate(percents):
        for column, value in enumerate(values[: row + 1]):
            color = "white" if value > middle else "black"
            words = f"{value:.1f}"
            axes.text(column, row, words, ha="center", va="center", color=color, fontsize=9)


def _draw_parameters(axes: Any, result: ContinualResult) -> None:
    """Bars for the network of each task, a line for the master network that holds them all."""
    own = [outcome.network_parameters for outcome in result.outcomes]
    shared = [outcome.parameters for outcome in result.outcomes]
    places = range(len(result.outcomes))
    axes.bar(places, own, 0.6, color=OWN, label="the task's own network")
    axes.plot(places, shared, "o-", color=SHARED, label="the master network")
    axes.set(title="Parameters", xlabel="task")
    # Room for the legend above the highest point.
    axes.set_ylim(0, 1.3 * max(*own, *shared))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _name_tasks(axes.set_xticks, result)
    _remove_frame(axes)
    axes.legend(loc="upper left", frameon=False, ncols=2)


def _draw_widths(figure: Any, rows: int, widths: Sequence[str], result: ContinualResult) -> None:
    """A small diagram per width, with one legend for all."""
    if not widths:
        return
    grid = list(figure.subplots(rows, min(COLUMNS, len(widths)), squeeze=False).flat)
    for axes in grid[len(widths) :]:
        axes.set_visible(False)
    for axes, width in zip(grid, widths, strict=False):
        _draw_stack(axes, [outcome.widths.get(width) for outcome in result.outcomes])
        _name_tasks(axes.set_xticks, result)
        # A width's name may hold dollar signs, which would start mathematics.
        axes.set_title(f"width {width}", fontsize=10, parse_math=False)
        _remove_frame(axes)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    figure.supxlabel("task", fontsize=10)
    figure.supylabel("neurons of its network", fontsize=10)


def _draw_stack(axes: Any, uses: Sequence[WidthUse | None]) -> None:
    """One bar per task: what is shared below, what it unlocked and added on top."""
    tops = [0] * len(uses)
    for kind, color in COLORS.items():
        heights = [getattr(use, kind) if use else 0 for use in uses]
        # matplotlib keeps the list, so the next kind needs a new one.
        axes.bar(range(len(uses)), heights, 0.7, bottom=tops, color=color, label=kind)
        tops = [top + height for top, height in zip(tops, heights, strict=True)]
    axes.set_ylim(0, HEADROOM * max(1, *tops))
    axes.yaxis.get_major_locator().set_params(integer=True)


def _name_tasks(set_ticks: Callable[..., Any], result: ContinualResult) -> None:
    names = [outcome.task for outcome in result.outcomes]
    step = math.ceil(len(names) / MAX_TICKS)
    set_ticks(range(0, len(names), step), names[::step], parse_math=False)


def _remove_frame(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
