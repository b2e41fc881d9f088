"""A model's growth history: one row per architecture it has been."""

from rich.table import Table

from fxgrow.report.numbers import NO_VALUE, count_text, number_text
from fxgrow.report.style import cell_texts, make_table
from fxgrow.spec import ArchitectureSpec, GrowthStep

# Digits of a fingerprint that are shown.
SHOWN_DIGITS = 12


def lineage_table(spec: ArchitectureSpec) -> Table:
    """The architectures that a model has been, from the first of its history to the present one.

    Args:
        spec: the present architecture.

    Returns:
        A row each: the first digits of its fingerprint, the growth step that made it, its cost.
    """
    numbers = ("split", "new", "layers", "parameters", "multiply-adds", "loss before", "after")
    table = make_table("Lineage", "fingerprint", "grown by", "budget", *numbers, right=numbers)
    table.add_row(*cell_texts(*_first_row(spec)))
    # A step knows the architecture that it grew; the one that it made is the next step's parent.
    children = [step.parent for step in spec.history[1:]]
    children.append(spec.fingerprint)
    for step, child in zip(spec.history, children, strict=False):
        table.add_row(*cell_texts(child[:SHOWN_DIGITS], *_row(step)))
    return table


def _first_row(spec: ArchitectureSpec) -> tuple[str, ...]:
    """The architecture that no growth step made."""
    if spec.history:
        fingerprint, cost = spec.history[0].parent, spec.history[0].cost_before
    else:
        fingerprint, cost = spec.fingerprint, spec.cost
    costs = (count_text(cost.parameters), count_text(cost.multiply_adds))
    growth, losses = [NO_VALUE] * 5, [NO_VALUE] * 2
    return (fingerprint[:SHOWN_DIGITS], *growth, *costs, *losses)


def _row(step: GrowthStep) -> tuple[str, ...]:
    budget = ", ".join(f"{key} {value}" for key, value in step.budget.items())
    split, new = 0, 0
    for change in step.widths:
        split += change.split
        new += change.new
    for layer in step.layers:
        new += layer.neurons
    return (
        step.method.name,
        budget or NO_VALUE,
        str(split),
        str(new),
        str(len(step.layers) + step.num_blocks),
        count_text(step.cost_after.parameters),
        count_text(step.cost_after.multiply_adds),
        number_text(step.loss_before),
        number_text(step.loss_after),
    )
