"""The rules of coupling, by family of operators.

``table`` lists the built-in ones, ``register_rule`` adds one for an operator of the user's own.
The functions exported here are the ready-made rules that such an operator can be given.
"""

from fxgrow.coupling.context import Context
from fxgrow.coupling.rules.contraction import addmm, baddbmm, bmm, convolution, mm, mv
from fxgrow.coupling.rules.elementwise import pointwise
from fxgrow.coupling.rules.movement import (
    cat,
    embedding,
    expand,
    flip,
    repeat,
    roll,
    same,
    stack,
)
from fxgrow.coupling.rules.normalization import (
    batch_norm,
    group_norm,
    layer_norm,
    reduction,
    softmax,
    space,
)
from fxgrow.coupling.rules.registry import RuleHandle, register_rule, rule_for
from fxgrow.coupling.rules.reshaping import reshape
from fxgrow.coupling.rules.table import FAMILIES, RULES, Rule, no_effect

__all__ = [
    "FAMILIES",
    "RULES",
    "Context",
    "Rule",
    "RuleHandle",
    "addmm",
    "baddbmm",
    "batch_norm",
    "bmm",
    "cat",
    "convolution",
    "embedding",
    "expand",
    "flip",
    "group_norm",
    "layer_norm",
    "mm",
    "mv",
    "no_effect",
    "pointwise",
    "reduction",
    "register_rule",
    "repeat",
    "reshape",
    "roll",
    "rule_for",
    "same",
    "softmax",
    "space",
    "stack",
]
