"""The page of a run: charts, one table, and what every growth step did.

It holds no script, and its content security policy lets nothing load; every word that a log brings
is escaped.
"""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.resources import files

from fxgrow.growth import UNITS
from fxgrow.report.numbers import count_text, number_text, percent_text, quantity_text, seconds_text
from fxgrow.report.run import RUN_COLUMNS, run_rows, run_sentence, run_title
from fxgrow.report.run_page.charts import draw_charts
from fxgrow.report.story import RunStory
from fxgrow.report.verdict import step_verdict
from fxgrow.training import GrowthRow

TITLE = "<title>fxgrow report</title>"
"""By which a page of this kind is recognized."""
# Styles are matplotlib's, in attributes; without scripts or loads they can do no harm.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def report_page(story: RunStory, name: str, diff: str = "") -> str:
    """Write a self-contained HTML page about a run.

    Args:
        story: the run.
        name: what to call it.
        diff: the address of the page with both graphs, relative to this one; "" for none.

    Returns:
        The text of the HTML file.

    Raises:
        RunError: ``missing-extra``: there is no matplotlib.
    """
    parts = [*_head(), f"<h1>{escape(name)} <small>fxgrow report</small></h1>\n"]
    parts.append(f'<p class="faint">{escape(_setting(story))}</p>\n')
    sentence = run_sentence(story).plain
    parts.append(f'<p class="lead">{escape(sentence[:1].upper() + sentence[1:])}.</p>\n')
    if diff:
        link = f'<a href="{escape(diff)}">both networks, node by node, side by side</a>'
        parts.append(f"<p>What changed: {link}</p>\n")
    parts.append(_charts(story))
    parts.append(f"<h2>{run_title(story)}</h2>\n" + _table(RUN_COLUMNS, run_rows(story)))
    for row in story.growths:
        parts += _growth(row, story.is_averaged)
    for skipped in story.skipped:
        parts.append(f"<h2>Growth step {skipped.step}, left out</h2>\n")
        parts.append(f"<p>After epoch {skipped.epoch}: {escape(skipped.reason)}</p>\n")
    parts.append("</body>\n</html>\n")
    return "".join(parts)


def _head() -> list[str]:
    style = (files(__package__) / "run_page.css").read_text(encoding="utf-8")
    return [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
        f"{TITLE}\n<style>{style}</style>\n</head>\n<body>\n",
    ]


def _setting(story: RunStory) -> str:
    """How long it trained and grew, and from which seed."""
    epochs = quantity_text(len(story.epochs), "epoch")
    if story.stopped is not None and story.planned_epochs is not None:
        epochs = f"{len(story.epochs)} of {story.planned_epochs} epochs"
    steps = quantity_text(len(story.growths), "growth step")
    parts = [
        f"{epochs} in {seconds_text(story.training_seconds)}",
        f"{steps} in {seconds_text(story.growth_seconds)}",
    ]
    if story.start is not None and "seed" in story.start.settings:
        parts.append(f"seed {story.start.settings['seed']}")
    if story.end is None:
        parts.append("not finished, or no run of fxgrow's own")
    return ", ".join(parts)


def _charts(story: RunStory) -> str:
    figures = []
    for title, svg in draw_charts(story).items():
        caption = f"<figcaption>{title}</figcaption>"
        figures.append(f'<figure role="group" aria-label="{title}">{caption}{svg}</figure>\n')
    marks = "<p class='faint'>Dashed lines are growth steps, by their numbers.</p>\n"
    return f'<div class="charts">\n{"".join(figures)}</div>\n{marks if story.growths else ""}'


def _growth(row: GrowthRow, is_averaged: bool) -> Iterator[str]:
    """One growth step: what it was worth, what grew, what was spent, what took no part."""
    epoch = "" if row.epoch is None else f", after epoch {row.epoch}"
    yield f"<h2>Growth step {row.step}{epoch}</h2>\n"
    for line in (row.picked, *(text.plain for text in step_verdict(row)), *row.remarks):
        if line:
            yield f"<p>{escape(line)}</p>\n"
    if row.held_out_before is not None:
        before, after = number_text(row.held_out_before, 4), number_text(row.held_out_after, 4)
        yield f"<p>Loss on held-out batches {before} → {after}. {escape(row.batches)}</p>\n"
    if is_averaged:
        yield '<p class="faint">These losses are of the weights themselves.</p>\n'
    yield "<h3>What grew</h3>\n" + _grown(row)
    yield from _spent(row)
    yield from _refused(row)


def _grown(row: GrowthRow) -> str:
    units = tuple(row.spending)
    bought = {one.width: one for one in row.bought}
    head = ["width", "before", "after", "split", "new", "score", "best"]
    body = []
    for change in row.widths:
        counts = map(str, (change.before, change.after, change.split, change.new))
        scores = (sum(change.scores), max(change.scores, default=None))
        cells = [change.width, *counts, *(number_text(score) for score in scores)]
        one = bought.get(change.width)
        # A width whose cost is not in the log has empty cells there.
        cells += [count_text(round(one.cost.get(unit, 0))) if one else "" for unit in units]
        body.append(cells)
    for layer in row.layers:
        counts = map(str, (0, layer.neurons, 0, layer.neurons))
        name = f"{layer.name} (inserted after {layer.after})"
        body.append([name, *counts, number_text(layer.score), "", *[""] * len(units)])
    for record in row.blocks:
        for path, score in zip(record.new_paths, record.scores, strict=True):
            cells = [f"{path} (new block)", *[""] * 4, number_text(score), "", *[""] * len(units)]
            body.append(cells)
    return _table([*head, *(UNITS.get(unit, unit) for unit in units)], body)


def _spent(row: GrowthRow) -> Iterator[str]:
    for unit, one in row.spending.items():
        spent, limit = count_text(round(one.spent)), count_text(round(one.limit))
        share = (
            f", {percent_text(one.spent / one.present)} of what there was" if one.present else ""
        )
        words = f"{spent} of {limit} {UNITS.get(unit, unit)} spent{share}"
        yield f'<p class="faint">Budget: {escape(words)}.</p>\n'
    # Rounding, or the growth would have been refused.
    checks = (
        f"Off by {row.faithful_error:.1e} from the over-grown graph, by "
        f"{row.preservation_error:.1e} from the old model at eps = 0; eps halved "
        f"{quantity_text(row.backtracks, 'time')}."
    )
    yield f'<p class="faint">{checks}</p>\n'


def _refused(row: GrowthRow) -> Iterator[str]:
    """The widths that took no part, by the code of the refusal."""
    if not row.refusals:
        return
    # A network may have hundreds of widths, and a handful of reasons.
    codes: dict[str, list[str]] = {}
    for width, code in row.refusals.items():
        codes.setdefault(code, []).append(width)
    body = [(code, str(len(names)), ", ".join(names)) for code, names in codes.items()]
    title = f"{quantity_text(len(row.refusals), 'width')} did not take part"
    yield f"<details><summary>{title}</summary>\n<dl>"
    for code, number, names in body:
        yield f"<dt><code>{escape(code)}</code> ({number})</dt><dd>{escape(names)}</dd>"
    yield "</dl></details>\n"


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A table that scrolls by itself where it is wider than the page."""
    heads = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    rows = []
    for cells in body:
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>\n")
    return f'<div class="wide"><table><tr>{heads}</tr>\n{"".join(rows)}</table></div>\n'
