"""The charts of a run, as SVG that takes its colors of text and lines from the page.

matplotlib draws them without pyplot's state and without a display. They are narrow, so that a phone
shows them at their own size, and text stays text.
"""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from fxgrow.errors import RunError
from fxgrow.optional import require
from fxgrow.report.story import RunStory

# Told apart without red or green (Okabe, Ito 2008).
_COLORS = ("#0072b2", "#e69f00", "#56b4e9", "#cc79a7", "#009e73", "#d55e00")
# Stands for the color of the page's text, dark or light, which the SVG then names itself.
_INK = "#1c2430"
_SIZE = (4.3, 2.9)  # inches; about the width of a phone, where text then has its own size
MAX_WIDTHS = len(_COLORS)
"""Widths that are drawn: those that grew most."""
_MAX_NAME = 26
_SHOWN_SHARE = 0.03
"""Of the time of a growth step, a phase that takes more has a bar of its own."""
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}

Series = Mapping[str, Sequence[tuple[float, float]]]
"""Per name the points of a line."""
Draw = Callable[[RunStory, Any], bool]
"""Draws a run on axes; says whether there was anything to draw."""


def draw_charts(story: RunStory) -> dict[str, str]:
    """Draw what can be drawn of a run.

    Args:
        story: the run.

    Returns:
        Per title of a chart its SVG element.

    Raises:
        RunError: ``missing-extra``: there is no matplotlib.
    """
    charts = {}
    for name, (title, draw) in CHARTS.items():
        text = _svg(name, partial(draw, story))
        if text:
            charts[title] = text
    return charts


def _svg(name: str, draw: Callable[[Any], bool]) -> str:
    matplotlib = require("matplotlib", extra="plot", error=RunError)
    figures = require("matplotlib.figure", extra="plot", error=RunError)
    # The salt makes the same run the same file, and names of parts unlike those of other charts.
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = figures.Figure(figsize=_SIZE, layout="constrained")
        axes = figure.subplots()
        if not draw(axes):
            return ""
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    # An element of the page, without what a file of its own begins with.
    _, _, svg = buffer.getvalue().partition("<svg")
    return "<svg" + svg.replace(_INK, "currentColor")


def _draw_lines(axes: Any, series: Series, *, steps: bool = False) -> bool:
    """One line per name, the axis of epochs, and a legend if there is more than one line."""
    shown = {name: points for name, points in series.items() if points}
    for color, (name, points) in zip(_COLORS, shown.items(), strict=False):
        x, y = zip(*points, strict=True)
        style = {"drawstyle": "steps-post"} if steps else {"marker": "o", "markersize": 3}
        axes.plot(x, y, color=color, label=name, linewidth=1.8, **style)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", color=_INK, alpha=0.15)
    if shown:
        legend = axes.legend(
            loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=9
        )
        for text in legend.get_texts():
            text.set_parse_math(False)  # a name may hold dollar signs
    return bool(shown)


def _mark_growths(axes: Any, story: RunStory, name: str) -> None:
    """A dashed line at every growth step, with its number."""
    for row in story.growths:
        # Logs of the first versions do not say when it was.
        if row.epoch is None:
            continue
        line = axes.axvline(row.epoch, color=_INK, alpha=0.55, linestyle=(0, (3, 2)), linewidth=1)
        line.set_gid(f"{name}-growth-{row.step}")
        axes.annotate(
            str(row.step), (row.epoch, 1), xycoords=("data", "axes fraction"),
            xytext=(3, -9), textcoords="offset points", fontsize=9,
        )  # fmt: skip


def _of_epochs(story: RunStory, field: str, scale: float = 1.0) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    # Whoever has a loop of their own measures what they like.
    for row in story.epochs:
        value = getattr(row, field)
        if value is not None:
            points.append((row.epoch, scale * value))
    return points


def _draw_loss(story: RunStory, axes: Any) -> bool:
    fields = {
        "training": "loss",
        "test": "test_loss",
        "test, averaged weights": "average_loss",
        "validation": "validation_loss",
    }
    drawn = _draw_lines(axes, {name: _of_epochs(story, field) for name, field in fields.items()})
    _mark_growths(axes, story, "loss")
    axes.set_ylabel("loss")
    return drawn


def _draw_accuracy(story: RunStory, axes: Any) -> bool:
    fields = {
        "test": "test_accuracy",
        "test, averaged weights": "average_accuracy",
        "validation": "validation_accuracy",
    }
    series = {name: _of_epochs(story, field, 100) for name, field in fields.items()}
    drawn = _draw_lines(axes, series)
    _mark_growths(axes, story, "accuracy")
    axes.set_ylabel("accuracy, %")
    return drawn


def _draw_widths(story: RunStory, axes: Any) -> bool:
    # More lines than colors could not be told apart.
    sizes = width_sizes(story)
    most = sorted(sizes, key=lambda name: sizes[name][0][1] - sizes[name][-1][1])[:MAX_WIDTHS]
    drawn = _draw_lines(axes, {_short(name): sizes[name] for name in most}, steps=True)
    _mark_growths(axes, story, "widths")
    axes.set_ylabel("neurons")
    axes.yaxis.get_major_locator().set_params(integer=True)
    return drawn


def width_sizes(story: RunStory) -> dict[str, list[tuple[float, float]]]:
    """Per width that grew its size, at the start, after each of its growth steps, at the end."""
    sizes: dict[str, list[tuple[float, float]]] = {}
    for row in story.growths:
        epoch = float(row.epoch or 0)
        for change in row.widths:
            sizes.setdefault(change.width, [(0.0, change.before)]).append((epoch, change.after))
    end = float(story.last.epoch) if story.last else 0.0
    for points in sizes.values():
        points.append((end, points[-1][1]))
    return sizes


def _short(name: str) -> str:
    half = _MAX_NAME // 2
    return name if len(name) <= _MAX_NAME else f"{name[:half]}…{name[-half:]}"


def _draw_cost(story: RunStory, axes: Any) -> bool:
    parameters, multiply_adds = [], []
    for row in story.growths:
        parameters.append((row.epoch, row.params_before, row.params))
        multiply_adds.append((row.epoch, row.multiply_adds_before, row.multiply_adds))
    series = {
        "parameters": _relative(parameters, story),
        "multiply-adds": _relative(multiply_adds, story),
    }
    drawn = _draw_lines(axes, series, steps=True)
    _mark_growths(axes, story, "cost")
    axes.set_ylabel("times that of the start")
    return drawn


def _relative(
    steps: Iterable[tuple[int | None, int | None, int | None]], story: RunStory
) -> list[tuple[float, float]]:
    """What something costs relative to its start; nothing if it is not known throughout."""
    points: list[tuple[float, float]] = []
    first: int | None = None
    for epoch, before, after in steps:
        first = first or before
        # Half a line would say that nothing grew after it.
        if not first or after is None:
            return []
        points = points or [(0.0, 1.0)]
        points.append((float(epoch or 0), after / first))
    end = float(story.last.epoch) if story.last else 0.0
    return [*points, (end, points[-1][1])] if points else []


def _draw_time(story: RunStory, axes: Any) -> bool:
    """Seconds of training, and of each phase of all growth steps together."""
    seconds = {"training": story.training_seconds}
    for row in story.growths:
        for name, value in row.timings.items():
            # What takes no time is of no interest by itself.
            is_large = value > _SHOWN_SHARE * row.seconds
            place = f"growth: {name}" if is_large else "growth: all else"
            seconds[place] = seconds.get(place, 0.0) + value
    shown = {name: value for name, value in seconds.items() if value > 0}
    names, values = list(shown), list(shown.values())
    places = range(len(names))
    colors = [_COLORS[0 if name == "training" else 1] for name in names]
    bars = axes.barh(places, values, color=colors)
    axes.set_yticks(places, [_short(name) for name in names], parse_math=False)
    axes.bar_label(bars, fmt="%.3g", padding=3, fontsize=9)
    axes.invert_yaxis()  # in the order of the names, from the top
    axes.margins(x=0.14)
    axes.tick_params(axis="y", labelsize=9)
    axes.set_xlabel("seconds")
    return bool(shown)


CHARTS: Mapping[str, tuple[str, Draw]] = {
    "loss": ("Loss", _draw_loss),
    "accuracy": ("Accuracy", _draw_accuracy),
    "widths": ("Widths over time", _draw_widths),
    "cost": ("Cost of the network", _draw_cost),
    "time": ("Where the time went", _draw_time),
}
"""Per name its title and what draws it."""
