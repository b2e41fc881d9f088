"""The options that a reference may pass to a library's constructor, and their ranges.

Options that are not in these tables are refused before anything is built. Those that name files,
checkpoints, weights, repositories or classes (``checkpoint_path``, ``pretrained``, ``weights``,
``trust_remote_code``, ``norm_layer``, ...) are in no table, so that a reference consists of
numbers, switches and a few words.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from fxgrow.documents import limits

# One lowercase word, such as the name of an activation function.
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,31}")


@dataclass(frozen=True)
class OptionKind:
    """A range of values of an option.

    Args:
        words: the range in a sentence, for messages.
        fits: whether one value is in it.
    """

    words: str
    fits: Callable[[Any], bool]

    def takes(self, value: Any) -> bool:
        """Whether a value is None, in the range, or a tuple of values in the range."""
        items = value if isinstance(value, tuple) else (value,)
        return value is None or (len(items) <= limits.OPTION_VALUES and all(map(self.fits, items)))


def _integer_kind(maximum: int) -> OptionKind:
    def fits(value: Any) -> bool:
        # Not ``isinstance``: True is an int, too.
        return type(value) is int and 0 <= value <= maximum

    return OptionKind(f"whole numbers from 0 to {maximum}", fits)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_real(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) <= limits.OPTION_SIZE


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= limits.NAME


FLAG_OPTION = OptionKind("true or false", _is_flag)
# Numbers of things that are built one by one (layers, heads), so their range is small.
COUNT_OPTION = _integer_kind(limits.OPTION_COUNT)
# Sides of windows and kernels.
WINDOW_OPTION = _integer_kind(limits.OPTION_WINDOW)
# Sides of images, lengths of sequences.
LENGTH_OPTION = _integer_kind(limits.OPTION_LENGTH)
# Widths of layers, sizes of vocabularies.
SIZE_OPTION = _integer_kind(limits.OPTION_SIZE)
REAL_OPTION = OptionKind(f"numbers from -{limits.OPTION_SIZE} to {limits.OPTION_SIZE}", _is_real)
WORD_OPTION = OptionKind("a word in small letters", _is_word)
FILE_OPTION = OptionKind("a text", _is_file_name)


def _table(rows: Mapping[OptionKind, str]) -> Mapping[str, OptionKind]:
    """Turn rows ``kind: "name name ..."`` into a table from names to kinds."""
    kinds: dict[str, OptionKind] = {}
    for kind, names in rows.items():
        kinds |= dict.fromkeys(names.split(), kind)
    return MappingProxyType(kinds)


TORCHVISION_OPTIONS = _table(
    {
        FLAG_OPTION: """aux_logits aux_loss dilated init_weights memory_efficient quantize
            reduced_tail replace_stride_with_dilation transform_input zero_init_residual""",
        COUNT_OPTION: """block_config bn_size groups num_keypoints num_layers num_heads
            round_nearest trainable_backbone_layers""",
        WINDOW_OPTION: "partition_size window_size",
        LENGTH_OPTION: "image_size input_size max_size min_size patch_size",
        SIZE_OPTION: """box_batch_size_per_image box_detections_per_img detections_per_img
            embed_dim growth_rate head_dim hidden_dim inter_channels last_channel mlp_dim
            num_classes num_init_features representation_size rpn_batch_size_per_image
            rpn_post_nms_top_n_test rpn_post_nms_top_n_train rpn_pre_nms_top_n_test
            rpn_pre_nms_top_n_train stem_channels stem_width topk_candidates width_per_group""",
        REAL_OPTION: """attention_dropout bg_iou_thresh box_bg_iou_thresh box_fg_iou_thresh
            box_nms_thresh box_positive_fraction box_score_thresh center_sampling_radius
            drop_rate dropout dropout_aux expansion_ratio fg_iou_thresh iou_thresh layer_scale
            mlp_dropout mlp_ratio nms_thresh positive_fraction rpn_bg_iou_thresh
            rpn_fg_iou_thresh rpn_nms_thresh rpn_positive_fraction rpn_score_thresh score_thresh
            squeeze_ratio stochastic_depth_prob width_mult""",
    }
)
TIMM_OPTIONS = _table(
    {
        FLAG_OPTION: """avg_down class_token conv_bias distillation dynamic_img_pad
            dynamic_img_size fc_norm final_norm fix_init head_bias head_norm_first
            memory_efficient no_embed_class pre_norm proj_bias qk_norm qkv_bias strict_img_size
            use_abs_pos use_pos_embed use_rel_pos zero_init_last""",
        COUNT_OPTION: """block_config bn_size cardinality depth depths downsamples groups heads
            layers num_blocks num_heads num_kv_heads output_stride reg_tokens""",
        WINDOW_OPTION: "down_kernel_size kernel_size kernel_sizes window_size window_sizes",
        LENGTH_OPTION: "img_size patch_size",
        SIZE_OPTION: """base_dim base_width channels dims embed_dim embed_dims growth_rate
            head_dim head_hidden_size hidden_sizes in_chans init_channels intermediate_size
            key_dim num_classes num_features num_init_features qk_dim stem_chs stem_hidden_dim
            stem_size stem_width widths""",
        REAL_OPTION: """attn_drop_rate attn_ratio depth_mult drop_block_rate drop_path_rate
            drop_rate expand_ratio head_init_scale init_values layer_scale_init_value
            ls_init_value mlp_ratio mlp_ratios norm_eps patch_drop_rate pos_drop_rate
            proj_drop_rate se_ratio width_factor width_mult window_ratio""",
        WORD_OPTION: "global_pool",
    }
)
HUGGING_FACE_OPTIONS = _table(
    {
        FLAG_OPTION: """add_adapter add_cross_attention add_pooling_layer attention_bias
            attn_bias auxiliary_loss conv_bias is_decoder mlp_bias norm_topk_prob pre_norm
            qkv_bias scale_attn_by_inverse_layer_idx scale_attn_weights scale_embedding
            tie_word_embeddings use_abs_pos use_absolute_embeddings
            use_absolute_position_embeddings use_bias use_cache use_conv_bias use_mask_token
            use_mean_pooling use_qk_norm use_rel_pos use_relative_position_bias
            use_shared_relative_position_bias use_sliding_window use_swiglu_ffn""",
        COUNT_OPTION: """decoder_attention_heads decoder_layers depth depths
            encoder_attention_heads encoder_layers max_window_layers n_group n_head n_heads
            n_layer n_layers n_routed_experts n_shared_experts num_attention_heads
            num_conv_pos_embedding_groups num_decoder_layers num_encoder_blocks num_experts
            num_experts_per_tok num_feature_levels num_heads num_hidden_groups num_hidden_layers
            num_key_value_heads num_kv_heads num_layers num_local_experts num_register_tokens
            num_stages first_k_dense_replace inner_group_num relative_attention_num_buckets
            topk_group""",
        WINDOW_OPTION: """conv_kernel conv_kernel_size conv_stride kernel_size patch_sizes
            strides window_size""",
        LENGTH_OPTION: """image_size max_position_embeddings max_source_positions
            max_target_positions n_ctx n_positions num_conv_pos_embeddings patch_size
            sliding_window tubelet_size temporal_patch_size spatial_merge_size""",
        SIZE_OPTION: """audio_channels bos_token_id chunk_size_feed_forward classifier_proj_size
            codebook_size conv_dim d_ff d_kv d_model decoder_ffn_dim decoder_hidden_size
            decoder_start_token_id dim embed_dim embedding_size encoder_ffn_dim eos_token_id
            ffn_dim head_dim hidden_dim hidden_size hidden_sizes image_token_id
            image_token_index in_channels intermediate_size kv_lora_rank mlp_dim
            moe_intermediate_size n_embd n_inner neck_hidden_sizes num_channels num_filters
            num_frames num_labels num_mel_bins num_queries out_hidden_size output_hidden_size
            pad_token_id pooler_output_size projection_dim q_lora_rank qk_nope_head_dim
            qk_rope_head_dim sampling_rate type_vocab_size v_head_dim vocab_size
            word_embed_proj_dim""",
        REAL_OPTION: """activation_dropout attention_dropout attention_probs_dropout_prob
            attn_pdrop batch_norm_eps classifier_dropout decoder_layerdrop drop_path_rate
            dropout dropout_rate embd_pdrop encoder_layerdrop feat_proj_dropout final_dropout
            final_logit_softcapping hidden_dropout hidden_dropout_prob init_std
            initializer_factor initializer_range layer_norm_eps layer_norm_epsilon
            layer_scale_init_value layerdrop layerscale_value logit_scale_init_value
            mask_feature_prob mask_time_prob mlp_ratio norm_eps resid_pdrop rms_norm_eps
            rope_theta routed_scaling_factor router_aux_loss_coef""",
        WORD_OPTION: """activation_function dense_act_fn feed_forward_proj hidden_act
            hidden_activation position_embedding_type""",
    }
)
CELLS_OPTIONS = _table(
    {
        FILE_OPTION: "genotype",
        FLAG_OPTION: "auxiliary",
        COUNT_OPTION: "layers",
        LENGTH_OPTION: "channels",
        SIZE_OPTION: "num_classes",
        REAL_OPTION: "drop_path",
    }
)


def wrong_value(table: Mapping[str, OptionKind], option: str, value: Any) -> str:
    """Say why an option does not fit a table.

    Args:
        table: the options of a constructor.
        option: the name of an option.
        value: what it is to be set to.

    Returns:
        The reason in words; empty if the option fits.
    """
    if option not in table:
        return f"it has no option {option!r} that a reference may set"
    return "" if table[option].takes(value) else f"{option!r} has to be {table[option].words}"
