"""A model's growth history: one row per architecture it has been."""

from rich.table import Table

from fxgrow.report.numbers import NOTHING, count, number
from fxgrow.report.style import cells, table
from fxgrow.spec import ArchitectureSpec, GrowthStep

SHORT = 12
"""Digits of a fingerprint that are shown."""


def lineage_table(spec: ArchitectureSpec) -> Table:
    """From the architecture that the history begins with to the present one; fingerprints by their first digits."""
    numbers = ("split", "new", "layers", "parameters", "multiply-adds", "loss before", "after")
    made = table("Lineage", "fingerprint", "grown by", "budget", *numbers, right=numbers)
    first = spec.history[0].cost_before if spec.history else spec.cost
    start = (spec.history[0].parent if spec.history else spec.fingerprint)[:SHORT]
    made.add_row(*cells(start, *([NOTHING] * 5), count(first.parameters), count(first.multiply_adds), *([NOTHING] * 2)))
    children = [*(step.parent for step in spec.history[1:]), spec.fingerprint]
    for step, child in zip(spec.history, children, strict=False):
        made.add_row(*cells(child[:SHORT], *_row(step)))
    return made


def _row(step: GrowthStep) -> tuple[str, ...]:
    return (
        step.method.name,
        ", ".join(f"{key} {value}" for key, value in step.budget.items()) or NOTHING,
        str(sum(change.split for change in step.widths)),
        str(sum(change.new for change in step.widths) + sum(layer.neurons for layer in step.layers)),
        str(len(step.layers)),
        count(step.cost_after.parameters),
        count(step.cost_after.multiply_adds),
        number(step.loss_before),
        number(step.loss_after),
    )
