"""The rule of parameters that a forward uses as values: layer scale, position embedding."""

import operator

from torch import fx, nn

from fxgrow.coupling import WRITTEN_FILLS
from fxgrow.errors import Refusal
from fxgrow.rewrite.context import RewriteContext
from fxgrow.rewrite.entries import times_eps
from fxgrow.rewrite.lanes import NEW, Lanes
from fxgrow.rewrite.rewriter import Provenance
from fxgrow.rewrite.rule import check_not_in_product, copy_plus


class ParameterRule:
    """A parameter used as a value (layer scale, position embedding).

    New neurons have values of their own in it, which the carrier holds.
    """

    def match(self, context: RewriteContext, node: fx.Node) -> bool:
        if node.op != "get_attr" or node in context.parameter_nodes or _only_its_form(node):
            return False
        if not node.users:  # exported graphs read tied parameters under each name
            return False
        return bool(context.touched(node))

    def check(self, context: RewriteContext, node: fx.Node) -> Refusal | None:
        return check_not_in_product(context, node)

    def rewrite(self, context: RewriteContext, node: fx.Node) -> Lanes:
        plus = copy_plus(context, node)
        new = {}
        for name, axis, tensor in context.labeled_axes(node):
            widths = context.widths_of(name, axis) & context.candidates.new.keys()
            for width in sorted(widths):
                provenance = Provenance("parameter", context.coupling.widths[width].name, NEW)
                rule = context.coupling.site_rules.get((name, axis))
                is_learned = isinstance(tensor, nn.Parameter)
                if rule is not None and rule.fill in WRITTEN_FILLS and is_learned:
                    target, unit = context.writing_carrier(name, axis, tensor, width)
                    value = context.rewriter.get_attr(target, provenance)
                    eps = _eps_of(context, width, provenance)
                    args = (value, eps, unit, axis)
                    new[width] = context.rewriter.call_function(times_eps, args, provenance)
                else:
                    target = context.carrier(name, axis, tensor, width)
                    new[width] = context.rewriter.get_attr(target, provenance)
        return Lanes(plus, None, new)


def _eps_of(context: RewriteContext, width: int, provenance: Provenance) -> fx.Node:
    """The eps of the new neurons of a width."""
    args = (context.eps_nodes[1], context.candidates.new[width])
    return context.rewriter.call_function(operator.getitem, args, provenance)


_ATTRIBUTES_WITHOUT_VALUES = ("dtype", "device", "shape", "ndim")
_METHODS_WITHOUT_VALUES = ("size", "dim", "numel", "nelement")


def _only_its_form(node: fx.Node) -> bool:
    """Whether nothing but the dtype, device or sizes of a parameter are read."""
    for user in node.users:
        if user.target is getattr and user.args[1] in _ATTRIBUTES_WITHOUT_VALUES:
            continue
        if user.op != "call_method" or user.target not in _METHODS_WITHOUT_VALUES:
            return False
    return bool(node.users)
