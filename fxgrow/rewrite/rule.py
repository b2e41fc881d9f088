"""What a rewrite rule is, and what all of them need: one class per kind of node."""

from typing import Protocol

from torch import fx, nn

from fxgrow.errors import Refusal
from fxgrow.rewrite.context import RewriteContext
from fxgrow.rewrite.lanes import Lanes, pick_lane
from fxgrow.rewrite.rewriter import Provenance


class RewriteRule(Protocol):
    """One kind of node. ``check``: why candidates cannot pass through a node (None: they can)."""

    def match(self, context: RewriteContext, node: fx.Node) -> bool: ...
    def check(self, context: RewriteContext, node: fx.Node) -> Refusal | None: ...
    def rewrite(self, context: RewriteContext, node: fx.Node) -> Lanes: ...


def no_rewrite(node: fx.Node, reason: str) -> Refusal:
    """The refusal of candidates that would have to pass through a node."""
    return Refusal("no-rewrite", reason, (node.name,))


def check_not_in_product(context: RewriteContext, node: fx.Node) -> Refusal | None:
    """Refuse a parameter that carries neurons and is a product's weight or bias too.

    It would need two sets of candidates.
    """
    for name, _, _ in context.labeled_axes(node):
        if name in context.op_by_parameter:
            return no_rewrite(node, f"{name} is used both in a product and by {node.name}")
    return None


def kind_of(root: nn.Module, node: fx.Node) -> str:
    """What a node calls, in a word."""
    if node.op == "call_module":
        return type(root.get_submodule(str(node.target))).__name__
    return str(getattr(node.target, "__name__", node.target))


def copy_plus(
    context: RewriteContext, node: fx.Node, provenance: Provenance | None = None
) -> fx.Node:
    """A copy of a node on the ``plus`` lanes of its arguments."""
    plus = pick_lane(context.env, lambda lanes: lanes.plus)
    return context.rewriter.copy(node, plus, provenance)
