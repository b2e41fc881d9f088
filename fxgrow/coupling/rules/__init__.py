"""The rules of coupling: one row per family of ATen operators, ``rule(context, args, out)``.

Operators tagged ``torch.Tag.pointwise`` need no row. An operator that has neither a row nor that tag is refused by
name as soon as a neuron reaches it. To add one: a row here and a test in ``tests/coupling/test_rules.py``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from fxgrow.coupling.rules import contraction, movement, normalisation
from fxgrow.coupling.rules.pointwise import pointwise
from fxgrow.coupling.values import Context

Rule = Callable[[Context, Sequence[Any], Any], None]

aten = torch.ops.aten


def nothing(ctx: Context, args: Sequence[Any], out: Any) -> None:
    """The result depends on sizes only, not on what the neurons say."""


FAMILIES: tuple[tuple[Rule, str], ...] = (
    (contraction.convolution, "convolution"),
    (contraction.mm, "mm"),
    (contraction.mv, "mv"),
    (contraction.bmm, "bmm"),
    (contraction.addmm, "addmm"),
    (contraction.baddbmm, "baddbmm"),
    (normalisation.batch_norm, "native_batch_norm"),
    (normalisation.layer_norm, "native_layer_norm"),
    (normalisation.group_norm, "native_group_norm"),
    (normalisation.softmax, "_softmax _safe_softmax _log_softmax cumsum"),
    (normalisation.reduction, "mean sum amax amin max min var var_mean argmax all any prod logsumexp"),
    (normalisation.vector_norm, "linalg_vector_norm"),
    (
        normalisation.space,
        "max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d max_pool3d_with_indices avg_pool3d"
        " _adaptive_avg_pool3d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_bilinear2d"
        " upsample_bicubic2d upsample_nearest3d upsample_trilinear3d reflection_pad1d reflection_pad2d reflection_pad3d"
        " replication_pad1d replication_pad2d replication_pad3d",
    ),
    (
        pointwise,  # torch does not tag these
        "hardswish hardswish_ masked_fill masked_fill_ _prelu_kernel rsub floor_divide where rrelu_with_noise",
    ),
    (normalisation.weight_norm, "_weight_norm_interface"),
    (movement.reshape, "view _unsafe_view _reshape_alias unsqueeze squeeze"),
    (movement.view(aten.permute.default), "permute"),
    (movement.view(aten.transpose.int), "transpose"),
    (movement.view(aten.t.default), "t"),
    (movement.same, "alias detach clone _to_copy lift_fresh"),
    (
        movement.same,
        "native_dropout bernoulli_ empty_like zeros_like ones_like rand_like randn_like full_like fill_ zero_ normal_"
        " uniform_ exponential_ bernoulli",
    ),
    (movement.expand, "expand"),
    (movement.partial, "select slice"),
    (movement.split, "split split_with_sizes unsafe_split unsafe_split_with_sizes"),
    (movement.unbind, "unbind"),
    (movement.cat, "cat"),
    (movement.stack, "stack"),
    (movement.glu, "glu"),
    (movement.pixel_shuffle, "pixel_shuffle"),
    (movement.copy, "copy_"),
    (movement.pad, "constant_pad_nd"),
    (movement.roll, "roll"),
    (movement.flip, "flip"),
    (movement.repeat, "repeat"),
    (movement.index, "index"),
    (movement.embedding, "embedding"),
    (nothing, "new_zeros new_ones new_empty new_full"),
)
"""Rules and the names of their ATen operators (all overloads)."""

RULES: dict[Any, Rule] = {getattr(aten, name): rule for rule, names in FAMILIES for name in names.split()}


def rule_for(operator: torch._ops.OpOverload) -> Rule | None:
    """The row of an operator, or None if it must be refused."""
    found = RULES.get(operator.overloadpacket)
    if found is None and torch.Tag.pointwise in operator.tags:
        return pointwise
    return found
