"""The built-in rules of coupling: one row per family of operators, ``rule(context, args, out)``.

Operators tagged ``torch.Tag.pointwise`` need no row. An operator that has neither a row nor that
tag is refused by name as soon as a neuron reaches it. To add one: a row here and a test in
``tests/coupling/test_rules.py``. Users add rules for their own operators by ``register_rule``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from fxgrow.coupling.context import Context
from fxgrow.coupling.rules import contraction, movement, normalization, patches, selection
from fxgrow.coupling.rules.einsum import einsum
from fxgrow.coupling.rules.elementwise import pointwise
from fxgrow.coupling.rules.reshaping import reshape

Rule = Callable[[Context, Sequence[Any], Any], None]

aten = torch.ops.aten


def no_effect(ctx: Context, args: Sequence[Any], out: Any) -> None:
    """The result depends on sizes only, and holds no neurons."""


FAMILIES: tuple[tuple[Rule, str], ...] = (
    # Products: they read neurons along the summed axis and write new ones.
    (contraction.convolution, "convolution"),
    (contraction.deformable, "torchvision::deform_conv2d"),
    (contraction.mm, "mm"),
    (contraction.mv, "mv"),
    (contraction.bmm, "bmm"),
    (contraction.addmm, "addmm"),
    (contraction.baddbmm, "baddbmm"),
    (contraction.grouped_mm, "_grouped_mm"),
    (einsum, "fxgrow::einsum"),
    # Statistics and pooling.
    (normalization.batch_norm, "native_batch_norm"),
    (normalization.layer_norm, "native_layer_norm"),
    (normalization.group_norm, "native_group_norm"),
    (normalization.softmax, "_softmax _safe_softmax _log_softmax cumsum cumprod logcumsumexp"),
    (
        normalization.reduction,
        "mean sum amax amin max min var var_mean argmax argmin all any prod logsumexp std std_mean"
        " median nansum mode",
    ),
    (normalization.vector_norm, "linalg_vector_norm kthvalue"),
    (normalization.dot, "dot vdot"),
    (normalization.distances, "_cdist_forward _euclidean_dist"),
    (
        normalization.space,
        "max_pool2d_with_indices max_pool3d_with_indices max_unpool2d max_unpool3d"
        " fractional_max_pool2d fractional_max_pool3d avg_pool2d avg_pool3d"
        " _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d"
        " upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d"
        " upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d"
        " _upsample_bilinear2d_aa _upsample_bicubic2d_aa"
        " _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d"
        " reflection_pad1d reflection_pad2d reflection_pad3d"
        " replication_pad1d replication_pad2d replication_pad3d",
    ),
    (
        pointwise,  # torch does not tag these
        "hardswish hardswish_ masked_fill masked_fill_ _prelu_kernel rsub floor_divide where"
        " rrelu_with_noise log_sigmoid_forward complex polar",
    ),
    (normalization.weight_norm, "_weight_norm_interface"),
    # Movement: the elements stay what they are.
    (reshape, "view _unsafe_view _reshape_alias unsqueeze squeeze"),
    (movement.view(aten.permute.default), "permute"),
    (movement.view(aten.transpose.int), "transpose"),
    (movement.view(aten.t.default), "t"),
    (movement.copied, "alias detach clone to _to_copy lift_fresh _conj _neg_view resolve_conj"),
    (
        movement.same,
        "native_dropout bernoulli_ fill_ zero_ normal_ uniform_ exponential_ bernoulli",
    ),
    (movement.like, "empty_like zeros_like ones_like rand_like randn_like full_like"),
    (movement.expand, "expand"),
    (movement.partial, "select slice"),
    (movement.split, "split split_with_sizes unsafe_split unsafe_split_with_sizes"),
    (movement.unbind, "unbind"),
    (movement.cat, "cat"),
    (movement.stack, "stack"),
    (movement.glu, "glu"),
    (movement.copy, "copy_"),
    (movement.pad, "constant_pad_nd"),
    (movement.roll, "roll"),
    (movement.flip, "flip"),
    (movement.repeat, "repeat"),
    (movement.embedding, "embedding"),
    (patches.unfold, "unfold"),
    (patches.im2col, "im2col"),
    (patches.col2im, "col2im"),
    (patches.pixel_shuffle, "pixel_shuffle"),
    (patches.pixel_unshuffle, "pixel_unshuffle"),
    (patches.channel_shuffle, "channel_shuffle native_channel_shuffle"),
    # Selection by number or order.
    (selection.index, "index"),
    (selection.index_select, "index_select"),
    (selection.gather, "gather"),
    (selection.index_put, "index_put index_put_ _unsafe_index_put"),
    (selection.index_add, "index_add index_add_ index_copy index_copy_ index_reduce index_reduce_"),
    (
        selection.scatter,
        "scatter scatter_ scatter_add scatter_add_ scatter_reduce scatter_reduce_",
    ),
    (selection.ordered(1), "sort cummax cummin"),
    (selection.ordered(2), "topk"),
    (selection.choosing, "nonzero masked_select masked_scatter bincount _unique2 torchvision::nms"),
    (selection.triangle, "tril triu"),
    (selection.diagonal, "diagonal"),
    (selection.grid_sample, "grid_sampler_2d grid_sampler_3d"),
    (selection.roi_align, "torchvision::roi_align"),
    (selection.embedding_bag, "_embedding_bag _embedding_bag_forward_only"),
    (selection.spectrum, "_fft_r2c _fft_c2r _fft_c2c"),
    (selection.complex_pairs, "view_as_complex view_as_real"),
    # What is made anew has no neurons, whatever it takes its type from.
    (no_effect, "new_zeros new_ones new_empty new_full _assert_tensor_metadata _assert_async"),
)
"""Rules and the names of their operators (all overloads), those of ATen without its name."""


def by_name(families: Sequence[tuple[Rule, str]]) -> dict[str, Rule]:
    """The rule of every operator by qualified name (``aten::mm``)."""
    # By name and not by object, so that an operator that this torch does not have is no error.
    rules = {}
    for rule, names in families:
        for name in names.split():
            qualified = name if "::" in name else f"aten::{name}"
            rules[qualified] = rule
    return rules


RULES = by_name(FAMILIES)


def rule_for(operator: torch._ops.OpOverload) -> Rule | None:
    """The built-in rule of an operator, or None if it has none."""
    rule = RULES.get(operator._schema.name)
    if rule is None and torch.Tag.pointwise in operator.tags:
        return pointwise
    return rule
