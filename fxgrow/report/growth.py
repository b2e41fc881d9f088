"""One growth step."""

from collections import Counter

from rich.text import Text

from fxgrow.growth import UNITS, GrowthReport, Plan
from fxgrow.report.numbers import (
    count_text,
    number_text,
    percent_text,
    quantity_text,
    ratio_text,
    seconds_text,
)
from fxgrow.report.style import BAD, DIM, GOOD

_MAX_NAMED = 4
"""Widths that a headline names."""


def growth_headline(report: GrowthReport, step: int) -> str:
    """What a growth step did in one line: the widths that grew most, and what it added.

    Args:
        report: the report of the growth step.
        step: its number.

    Returns:
        The line; ``fxgrow report`` shows every width.
    """
    most = sorted(report.widths, key=lambda change: change.before - change.after)
    named = [f"{one.width} {one.before} -> {one.after}" for one in most[:_MAX_NAMED]]
    if len(most) > _MAX_NAMED:
        named.append(f"and {len(most) - _MAX_NAMED} more")
    # A layer that is inserted starts without neurons, so all that it has are new.
    named += [f"new layer {layer.name} ({layer.neurons} neurons)" for layer in report.layers]
    for record in report.blocks:
        named += [f"new block {path}" for path in record.new_paths]
    return f"growth step {step}: {', '.join(named) or 'nothing grew'}"


def plan_lines(plan: Plan) -> tuple[Text, ...]:
    """For every unit of the budget how much of it was spent."""
    lines = []
    for unit, spending in plan.spending.items():
        spent, limit = count_text(round(spending.spent)), count_text(round(spending.limit))
        before = count_text(round(spending.present))
        share = percent_text(spending.spent / spending.present)
        words = f"budget: {spent} of {limit} {UNITS[unit]} spent, {share} of the {before} before"
        lines.append(Text(words))
    return tuple(lines)


def growth_lines(report: GrowthReport) -> tuple[Text, ...]:
    """Why this method, the losses, what served for what, the cost, checks, time and refusals."""
    return (
        *_line_if_any(report.picked),
        _loss(report),
        *_held_out_loss(report),
        *_stale_statistics(report),
        Text(_cost("parameters", report.params_before, report.params_after)),
        Text(_multiply_adds(report)),
        Text(
            f"off by {report.faithful_error:.1e} from the over-grown graph, "
            f"by {report.preservation_error:.1e} from the old model at eps = 0; "
            f"took {seconds_text(report.seconds)}"
        ),
        *_line_if_any(report.unchecked),
        *_blocks(report),
        *_line_if_any(report.unspent, BAD),
        *_groups(report),
        *_batch_norm_gap(report),
        *_refusals(report),
    )


def _line_if_any(text: str, style: str = "") -> tuple[Text, ...]:
    return (Text(text, style=style),) if text else ()


def _loss(report: GrowthReport) -> Text:
    before, after = number_text(report.loss_before, 4), number_text(report.loss_after, 4)
    line = Text(f"loss on the growth batches that scored {before} -> {after}")
    line.stylize(GOOD if report.loss_after <= report.loss_before else BAD)
    # Appended after styling, so this part has no color.
    if report.backtracks:
        line.append(f" after halving eps {quantity_text(report.backtracks, 'time')}")
    return line


def _groups(report: GrowthReport) -> tuple[Text, ...]:
    """If the widths did not fit into memory at once: in how many groups they were searched."""
    if len(report.chunks) < 2:
        return ()
    refined = "" if report.refined else ", the selected ones not refined"
    peak = ""
    if report.peak_memory is not None:
        peak = f", {count_text(round(report.peak_memory))} bytes at the peak"
    words = f"searched in {len(report.chunks)} groups of widths{peak}{refined}"
    return (Text(words),)


def _multiply_adds(report: GrowthReport) -> str:
    """What one pass costs before and after, or why that is not known."""
    before, after = report.multiply_adds_before, report.multiply_adds_after
    if before is None or after is None:
        return report.costs_unknown
    return _cost("multiply-adds", before, after)


def _cost(name: str, before: int, after: int) -> str:
    return f"{name} {count_text(before)} -> {count_text(after)} ({ratio_text(before, after)})"


def _held_out_loss(report: GrowthReport) -> tuple[Text, ...]:
    """What growth did where nothing was fitted, and which batches served what."""
    if report.held_out_before is None or report.held_out_after is None:
        return ()
    before, after = number_text(report.held_out_before, 4), number_text(report.held_out_after, 4)
    line = Text(f"loss on held-out batches {before} -> {after}")
    line.stylize(GOOD if report.held_out_after <= report.held_out_before else BAD)
    return line, Text(str(report.batches))


def _stale_statistics(report: GrowthReport) -> tuple[Text, ...]:
    if report.stale_loss is None:
        return ()
    stale, refreshed = number_text(report.stale_loss, 4), number_text(report.held_out_before, 4)
    words = "statistics of batch norms estimated anew before that: held-out loss"
    return (Text(f"{words} {stale} -> {refreshed}"),)


def _batch_norm_gap(report: GrowthReport) -> tuple[Text, ...]:
    if report.jump is None:
        return ()
    moves = f"by {report.jump.before:+.2g} before growth, {report.jump.after:+.2g} after"
    return (Text(f"statistics of each batch instead of running ones move the loss {moves}"),)


def _blocks(report: GrowthReport) -> tuple[Text, ...]:
    """What copies of blocks promised, best first, and how many were bought."""
    if not report.block_gains:
        return ()
    best = sorted(report.block_gains.items(), key=lambda pair: -pair[1])
    named = [f"{path} {number_text(gain)}" for path, gain in best[:_MAX_NAMED]]
    more = ", ..." if len(best) > _MAX_NAMED else ""
    bought = quantity_text(report.num_blocks, "block")
    words = f"copies of blocks promised {', '.join(named)}{more}; {bought} bought beside neurons"
    return (Text(words),)


def _refusals(report: GrowthReport) -> tuple[Text, ...]:
    if not report.refusals:
        return ()
    codes = Counter(refusal.code for refusal in report.refusals.values())
    reasons = ", ".join(f"{number} {code}" for code, number in codes.most_common())
    widths = quantity_text(len(report.refusals), "width")
    return (Text(f"did not take part: {widths} ({reasons})", style=DIM),)
