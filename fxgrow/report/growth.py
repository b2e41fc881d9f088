"""One growth step."""

from collections import Counter

from rich.table import Table
from rich.text import Text

from fxgrow.growth import GrowthReport
from fxgrow.report.numbers import count, number, quantity, ratio, seconds
from fxgrow.report.style import BAD, GOOD, cells, table


def growth_table(report: GrowthReport, step: int) -> Table:
    """One row per width that grew: sizes, how many of its neurons were split or are new, the best score."""
    made = table(
        f"Growth step {step}", "width", "before", "after", "split", "new", "best score",
        right=("before", "after", "split", "new", "best score"),
    )  # fmt: skip
    for change in report.widths:
        numbers = (change.before, change.after, change.split, change.new)
        best = max(change.scores, default=None)
        made.add_row(*cells(change.width, *map(str, numbers), number(best)))
    return made


def growth_lines(report: GrowthReport) -> tuple[Text, ...]:
    """Loss on the growth batches, cost, the three promises, time, and who was refused."""
    fell = report.loss_after <= report.loss_before
    loss = Text(f"loss on the growth batches {number(report.loss_before, 4)} -> {number(report.loss_after, 4)}")
    loss.stylize(GOOD if fell else BAD)
    halved = "" if not report.backtracks else f" after halving eps {quantity(report.backtracks, 'time')}"
    return (
        loss.append(halved),
        Text(_cost("parameters", report.params_before, report.params_after)),
        Text(_cost("multiply-adds", report.multiply_adds_before, report.multiply_adds_after)),
        Text(
            f"off by {report.faithful_error:.1e} from the over-grown graph, by {report.preservation_error:.1e} "
            f"from the old model at eps = 0; took {seconds(report.seconds)}"
        ),
        *_refusals(report),
    )


def _cost(name: str, before: int, after: int) -> str:
    return f"{name} {count(before)} -> {count(after)} ({ratio(before, after)})"


def _refusals(report: GrowthReport) -> tuple[Text, ...]:
    if not report.refusals:
        return ()
    codes = Counter(refusal.code for refusal in report.refusals.values())
    reasons = ", ".join(f"{number} {code}" for code, number in codes.most_common())
    return (Text(f"did not take part: {quantity(len(report.refusals), 'width')} ({reasons})", style="dim"),)
