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


FAMILIES: tuple[tuple[Rule, tuple[Any, ...]], ...] = (
    (contraction.convolution, (aten.convolution,)),
    (contraction.mm, (aten.mm,)),
    (contraction.mv, (aten.mv,)),
    (contraction.bmm, (aten.bmm,)),
    (contraction.addmm, (aten.addmm,)),
    (contraction.baddbmm, (aten.baddbmm,)),
    (normalisation.batch_norm, (aten.native_batch_norm, aten.cudnn_batch_norm, aten._native_batch_norm_legit)),
    (normalisation.layer_norm, (aten.native_layer_norm,)),
    (normalisation.group_norm, (aten.native_group_norm,)),
    (normalisation.softmax, (aten._softmax, aten._safe_softmax, aten._log_softmax, aten.cumsum)),
    (
        normalisation.reduction,
        (
            aten.mean,
            aten.sum,
            aten.amax,
            aten.amin,
            aten.max,
            aten.min,
            aten.var,
            aten.var_mean,
            aten.argmax,
            aten.all,
            aten.any,
            aten.prod,
            aten.logsumexp,
        ),
    ),
    (normalisation.vector_norm, (aten.linalg_vector_norm, aten.norm)),
    (
        normalisation.space,
        (
            aten.max_pool2d_with_indices,
            aten.avg_pool2d,
            aten._adaptive_avg_pool2d,
            aten.adaptive_max_pool2d,
            aten.upsample_nearest2d,
            aten.upsample_bilinear2d,
            aten.upsample_bicubic2d,
            aten.max_pool3d_with_indices,
            aten.avg_pool3d,
            aten._adaptive_avg_pool3d,
        ),
    ),
    (
        movement.reshape,
        (
            aten.view,
            aten._unsafe_view,
            aten.reshape,
            aten._reshape_alias,
            aten.unsqueeze,
            aten.squeeze,
            aten.as_strided_,
        ),
    ),
    (movement.view(aten.permute.default), (aten.permute,)),
    (movement.view(aten.transpose.int), (aten.transpose,)),
    (movement.view(aten.t.default), (aten.t,)),
    (movement.same, (aten.alias, aten.detach, aten.clone, aten._to_copy, aten.contiguous, aten.lift_fresh)),
    (
        movement.same,
        (
            aten.native_dropout,
            aten.bernoulli_,
            aten.empty_like,
            aten.zeros_like,
            aten.ones_like,
            aten.rand_like,
            aten.randn_like,
            aten.full_like,
            aten.fill_,
            aten.zero_,
            aten.normal_,
            aten.uniform_,
            aten.hardswish_,
        ),
    ),
    (movement.expand, (aten.expand,)),
    (movement.partial, (aten.select, aten.slice)),
    (movement.split, (aten.split, aten.split_with_sizes)),
    (movement.unbind, (aten.unbind,)),
    (movement.cat, (aten.cat,)),
    (movement.pad, (aten.constant_pad_nd,)),
    (movement.roll, (aten.roll,)),
    (movement.flip, (aten.flip,)),
    (movement.repeat, (aten.repeat,)),
    (movement.index, (aten.index,)),
    (movement.embedding, (aten.embedding,)),
    (nothing, (aten.new_zeros, aten.new_ones, aten.new_empty, aten.new_full, aten.sym_size, aten.is_same_size)),
)

RULES: dict[Any, Rule] = {packet: rule for rule, packets in FAMILIES for packet in packets}


def rule_for(operator: torch._ops.OpOverload) -> Rule | None:
    """The row of an operator, or None if it must be refused."""
    found = RULES.get(operator.overloadpacket)
    if found is None and torch.Tag.pointwise in operator.tags:
        return pointwise
    return found
