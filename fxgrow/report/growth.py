"""One growth step."""

from collections import Counter
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from fxgrow.growth import UNITS, GrowthReport, Plan, PlanRow
from fxgrow.report.numbers import (
    count_text,
    number_text,
    percent_text,
    quantity_text,
    ratio_text,
    seconds_text,
)
from fxgrow.report.style import BAD, GOOD, cell_texts, make_table


def growth_table(report: GrowthReport, step: int) -> Table:
    """One row per width that grew and per layer put in: sizes, how many neurons were split or are new, best score."""
    made = make_table(
        f"Growth step {step}", "width", "before", "after", "split", "new", "best score",
        right=("before", "after", "split", "new", "best score"),
    )  # fmt: skip
    for change in report.widths:
        numbers = (change.before, change.after, change.split, change.new)
        best = max(change.scores, default=None)
        made.add_row(*cell_texts(change.width, *map(str, numbers), number_text(best)))
    for layer in report.layers:
        made.add_row(
            *cell_texts(
                f"{layer.name} (layer)", "0", *map(str, (layer.neurons, 0, layer.neurons)), ""
            )
        )
    return made


def plan_table(plan: Plan) -> Table:
    """What the budget bought: per width its neurons, their score, and cost and score per unit; the best bargain first.

    The last row is the whole: what was spent, which is more than the sum where both ends of a layer grow.
    """
    units = tuple(plan.spending)
    numbers = (
        "split",
        "new",
        "score",
        *(word for unit in units for word in (UNITS[unit], "score per unit")),
    )
    made = make_table("What the budget bought", "width", *numbers, right=numbers)
    for row in plan.rows:
        made.add_row(*_plan_row(row, units))
    made.add_section()
    made.add_row(*_plan_row(plan.whole, units))
    return made


def _plan_row(row: PlanRow, units: Sequence[str]) -> tuple[Text, ...]:
    costs = (
        word
        for unit in units
        for word in (count_text(round(row.cost[unit])), number_text(row.worth(unit)))
    )
    return cell_texts(row.width, str(row.split), str(row.new), number_text(row.score), *costs)


def plan_lines(plan: Plan) -> tuple[Text, ...]:
    """For every unit of the budget how much of it was spent."""
    return tuple(
        Text(
            f"budget: {count_text(round(spending.spent))} of {count_text(round(spending.limit))} {UNITS[unit]} spent, "
            f"{percent_text(spending.spent / spending.present)} of the {count_text(round(spending.present))} before"
        )
        for unit, spending in plan.spending.items()
    )


def growth_lines(report: GrowthReport) -> tuple[Text, ...]:
    """Loss on the growth batches, cost, the three promises, time, and who was refused."""
    fell = report.loss_after <= report.loss_before
    loss = Text(
        f"loss on the growth batches {number_text(report.loss_before, 4)} -> {number_text(report.loss_after, 4)}"
    )
    loss.stylize(GOOD if fell else BAD)
    halved = (
        ""
        if not report.backtracks
        else f" after halving eps {quantity_text(report.backtracks, 'time')}"
    )
    return (
        loss.append(halved),
        Text(_cost("parameters", report.params_before, report.params_after)),
        Text(_cost("multiply-adds", report.multiply_adds_before, report.multiply_adds_after)),
        Text(
            f"off by {report.faithful_error:.1e} from the over-grown graph, by {report.preservation_error:.1e} "
            f"from the old model at eps = 0; took {seconds_text(report.seconds)}"
        ),
        *_chunks(report),
        *_jump(report),
        *_refusals(report),
    )


def _chunks(report: GrowthReport) -> tuple[Text, ...]:
    if len(report.chunks) < 2:
        return ()
    refined = "" if report.refined else ", the selected ones not refined"
    peak = count_text(round(report.peak_memory))
    return (
        Text(
            f"searched in {len(report.chunks)} groups of widths, {peak} bytes at the peak{refined}"
        ),
    )


def _cost(name: str, before: int, after: int) -> str:
    return f"{name} {count_text(before)} -> {count_text(after)} ({ratio_text(before, after)})"


def _jump(report: GrowthReport) -> tuple[Text, ...]:
    if report.jump is None:
        return ()
    moves = f"by {report.jump.before:+.2g} before growth, {report.jump.after:+.2g} after"
    return (Text(f"statistics of each batch instead of running ones move the loss {moves}"),)


def _refusals(report: GrowthReport) -> tuple[Text, ...]:
    if not report.refusals:
        return ()
    codes = Counter(refusal.code for refusal in report.refusals.values())
    reasons = ", ".join(f"{number} {code}" for code, number in codes.most_common())
    return (
        Text(
            f"did not take part: {quantity_text(len(report.refusals), 'width')} ({reasons})",
            style="dim",
        ),
    )
