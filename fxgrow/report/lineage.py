"""A model's growth history: one row per architecture it has been."""

from rich.table import Table

from fxgrow.report.numbers import NO_VALUE, count_text, number_text
from fxgrow.report.style import cell_texts, make_table
from fxgrow.spec import ArchitectureSpec, GrowthStep

SHORT = 12
"""Digits of a fingerprint that are shown."""


def lineage_table(spec: ArchitectureSpec) -> Table:
    """From the architecture that the history begins with to the present one; fingerprints by their first digits."""
    numbers = ("split", "new", "layers", "parameters", "multiply-adds", "loss before", "after")
    made = make_table("Lineage", "fingerprint", "grown by", "budget", *numbers, right=numbers)
    first = spec.history[0].cost_before if spec.history else spec.cost
    start = (spec.history[0].parent if spec.history else spec.fingerprint)[:SHORT]
    made.add_row(
        *cell_texts(
            start,
            *([NO_VALUE] * 5),
            count_text(first.parameters),
            count_text(first.multiply_adds),
            *([NO_VALUE] * 2),
        )
    )
    children = [*(step.parent for step in spec.history[1:]), spec.fingerprint]
    for step, child in zip(spec.history, children, strict=False):
        made.add_row(*cell_texts(child[:SHORT], *_row(step)))
    return made


def _row(step: GrowthStep) -> tuple[str, ...]:
    return (
        step.method.name,
        ", ".join(f"{key} {value}" for key, value in step.budget.items()) or NO_VALUE,
        str(sum(change.split for change in step.widths)),
        str(
            sum(change.new for change in step.widths) + sum(layer.neurons for layer in step.layers)
        ),
        str(len(step.layers)),
        count_text(step.cost_after.parameters),
        count_text(step.cost_after.multiply_adds),
        number_text(step.loss_before),
        number_text(step.loss_after),
    )
