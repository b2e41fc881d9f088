"""Operators without a rule: what reaches them is refused by name, and nothing gets lost there."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from fxgrow.coupling.context import Context
from fxgrow.coupling.fields import field_core, spread_field
from fxgrow.coupling.values import Role


def refuse_unknown(ctx: Context, operator: Any, operands: Sequence[Tensor], out: Any) -> None:
    """Refuse all neurons that reach an operator that has no rule.

    The refused labels go on into the result, along dimensions of the same size, so that what reads
    it is refused together with them.

    Args:
        ctx: the context of the run.
        operator: the operator.
        operands: its tensors.
        out: its result or results.
    """
    reason = f"fxgrow has no rule for the operator {operator}; register_rule adds one"
    of_weights: list[dict[int, Tensor]] = []
    of_activations: list[dict[int, Tensor]] = []
    for operand in operands:
        fields = ctx.fields(operand)
        ctx.pin_fields(fields.values(), "unknown-operator", reason)
        is_weight = bool(ctx.value(operand).axes)
        if is_weight:
            ctx.record_role(operand, Role.WRITES)
        lines = {dims[0]: field for dims, field in fields.items() if len(dims) == 1}
        (of_weights if is_weight else of_activations).append(lines)
    only_weights = not of_activations and len(of_weights) == 1
    axes = ctx.value(operands[0]).axes if only_weights else ()
    for result in tree_leaves(out):
        if isinstance(result, Tensor):
            ctx.set_fields(result, _carried(result, of_weights, of_activations), axes)


def _carried(
    result: Tensor,
    of_weights: Sequence[dict[int, Tensor]],
    of_activations: Sequence[dict[int, Tensor]],
) -> list[Tensor]:
    """Per dimension of a result, the labels of an operand that has as many.

    Weights have no other dimensions than those of neurons, so theirs may have moved.
    """
    carried = []
    for dim, size in enumerate(result.shape):
        candidates = []
        for lines in of_activations:
            candidates += [field for at, field in lines.items() if at == dim]
        for lines in of_weights:
            # That of the same place comes first.
            candidates += [lines[at] for at in sorted(lines, key=lambda at: at != dim)]
        for field in candidates:
            core = field_core(field)
            if size > 1 and len(core) == size:
                carried.append(spread_field(core, (dim,), result.shape))
                break
    return carried
