"""The table of rewrite rules, one class per kind of node: ``match``, ``check``, ``rewrite``.

``REWRITE_RULES`` is tried in order; the last one takes everything that is left.
"""

from torch import fx

from fxgrow.errors import InternalError
from fxgrow.rewrite.context import RewriteContext
from fxgrow.rewrite.norms import MeanSquareRule, NormalizationRule, TiedReaderRule
from fxgrow.rewrite.parameter_rule import ParameterRule
from fxgrow.rewrite.path_rules import (
    ConcatRule,
    DepthwiseRule,
    GroupNormRule,
    PathRule,
    ReshapeRule,
    SplitRule,
)
from fxgrow.rewrite.product_rules import LinearRule
from fxgrow.rewrite.recurrent_rule import RecurrentRule
from fxgrow.rewrite.rule import RewriteRule

REWRITE_RULES: tuple[RewriteRule, ...] = (
    RecurrentRule(),
    TiedReaderRule(),
    NormalizationRule(),
    MeanSquareRule(),
    LinearRule(),
    ParameterRule(),
    ConcatRule(),
    DepthwiseRule(),
    GroupNormRule(),
    ReshapeRule(),
    SplitRule(),
    PathRule(),
)


def rule_for(context: RewriteContext, node: fx.Node) -> RewriteRule:
    """The first rule that matches a node.

    Args:
        context: the graph being rewritten.
        node: a node of the old graph.

    Returns:
        Its rule; the last one matches every node.
    """
    for rule in REWRITE_RULES:
        if rule.match(context, node):
            return rule
    raise InternalError(f"no rewrite rule matches {node.format_node()}")
