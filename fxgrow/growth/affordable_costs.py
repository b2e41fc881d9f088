"""Costs that are told if they can be counted: no growth is given up because of them."""

from fxgrow.capture import Captured
from fxgrow.errors import SpecError
from fxgrow.spec import multiply_adds


def countable_multiply_adds(captured: Captured, costs: bool = True) -> tuple[int | None, str]:
    """Count multiply-adds if that is possible: no growth is given up because of them.

    Args:
        captured: a graph and its inputs.
        costs: whether the caller wants them at all.

    Returns:
        Their number or None, and why they are not known ("" if they are).
    """
    if not costs:
        return None, "costs were not asked for"
    try:
        return multiply_adds(captured.graph_module, captured.example_inputs), ""
    except SpecError as error:
        return None, f"costs are unknown: {error}"
