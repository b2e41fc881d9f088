"""Neurons that pass a product along an axis that it neither reads nor writes.

A matrix over time or over the nodes of a graph (``mix @ h``) is applied to every neuron of h alike.
So each lane of them goes through it by itself, as through anything between writer and reader. With
candidates of its own the product gives lanes of its own, and neurons that are new in both ways
would need a place for each pair, which nothing emits.
"""

from torch import fx

from fxgrow.errors import Refusal
from fxgrow.rewrite.context import RewriteContext


def carried_candidates(context: RewriteContext, node: fx.Node) -> frozenset[int]:
    """The widths with candidates that only pass a node.

    Args:
        context: the graph being rewritten.
        node: a node that reads or writes neurons.
    """
    candidates = {*context.candidates.split, *context.candidates.new}
    return frozenset(_carried(context, node) & candidates)


def refusals_of_carried(context: RewriteContext, node: fx.Node) -> dict[int, Refusal]:
    """Refuse the widths that pass a product which reads or writes others that can grow.

    Args:
        context: the graph to be rewritten.
        node: a node of it.

    Returns:
        A refusal for each of them.
    """
    if not context.is_linear(node):
        return {}
    widths = context.coupling.widths
    own = sorted(width for width in context.touched(node) if widths[width].growable)
    if not own:
        return {}
    reason = f"it passes {node.name}, which has candidates itself (leave {widths[own[0]].name} out)"
    refusal = Refusal("no-rewrite", reason, (node.name,))
    return dict.fromkeys(_carried(context, node), refusal)


def _carried(context: RewriteContext, node: fx.Node) -> frozenset[int]:
    carried = context.coupling.carries.get(node.name, frozenset())
    return carried - context.touched(node)
