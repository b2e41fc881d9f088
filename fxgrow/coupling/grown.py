"""The widths of a grown model by those that it had, where a second look would find the same.

Coupling is a function of the program and its sizes. Its trial growth has run the program with more
neurons in every width that can grow, and found the labels of the old ones where they were said to
be. So if the grown model is the same program, operator by operator and number by number, its widths
are the old ones with their new sizes, unless something depends on a size itself.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import fx

from fxgrow.capture import Captured, How, MethodPart
from fxgrow.coupling.widths import Coupling, Width
from fxgrow.surgery import Change

_SIZELESS = frozenset({"output", "unread"})
"""Refusals that neither come from a size nor tell one."""


def grown_widths(
    coupling: Coupling, changes: Mapping[int, Change], before: Captured, after: Captured
) -> tuple[Width, ...] | None:
    """The widths that ``couple`` would find in a grown model, without looking for them again.

    Args:
        coupling: the widths of the model before it grew, of all of its modules.
        changes: what happened to each width that changed, by its number.
        before: the model as it was captured before it grew.
        after: the same model as it was captured afterwards.

    Returns:
        The widths; None if something might depend on a size, so that only ``couple`` can tell.
    """
    refusals = [width.refusal for width in coupling.widths if width.refusal is not None]
    # An attribute that follows its width may have had the size of another one by chance.
    follows_sizes = coupling.attributes or coupling.replay is not None or coupling.unreached
    # One neuron is broadcast where two are not.
    was_single = any(coupling.widths[number].size == 1 for number in changes)
    if follows_sizes or was_single or any(refusal.code not in _SIZELESS for refusal in refusals):
        return None
    # Inside an opaque part the code may ask for sizes, and nobody sees it, parameters or not.
    is_whole = not _has_opaque_part(before) and not _has_opaque_part(after)
    if not is_whole or _program(before.graph_module.graph) != _program(after.graph_module.graph):
        return None
    widths = list(coupling.widths)
    for number, change in changes.items():
        widths[number] = replace(widths[number], size=change.size)
    return tuple(widths)


def _has_opaque_part(captured: Captured) -> bool:
    if any(part.how is How.OPAQUE for part in captured.report):
        return True
    return any(isinstance(module, MethodPart) for module in captured.graph_module.modules())


def _program(graph: fx.Graph) -> list[tuple[Any, ...]]:
    """What a graph computes, with nodes by their names."""
    return [
        (node.name, node.op, node.target, repr(node.args), repr(node.kwargs))
        for node in graph.nodes
    ]
