"""Hugging Face architectures from small random configs: encoders, decoders, encoder-decoders, vision, audio, ...

Sizes are small and, where a config allows it, different from one another, so that no two widths are united by accident.
Inputs are words, images, waves or spectra, as the arguments of ``forward`` by position.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tools.zoo.row import Row, noise

BATCH, LENGTH, WORDS = 2, 7, 61
TEXT = {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
ENCODER = {**TEXT, "intermediate_size": 24, "max_position_embeddings": 32}
DECODER = {**ENCODER, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GROUPED = {**DECODER, "num_key_value_heads": 2}
EXPERTS = {  # the default, grouped_mm, does not exist in float64
    **GROUPED, "experts_implementation": "eager", "moe_intermediate_size": 12,
    "num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2,
}  # fmt: skip
SEQ2SEQ = {
    "vocab_size": WORDS, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 24, "decoder_ffn_dim": 28, "max_position_embeddings": 32,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "forced_eos_token_id": 2,
}  # fmt: skip
T5 = {
    "vocab_size": WORDS, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 3,
    "decoder_start_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
PATCHES = {
    "image_size": 16, "patch_size": 4, "num_channels": 3, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 24, "num_labels": 5,
}  # fmt: skip
STAGES = {"num_channels": 3, "depths": [1, 2], "num_stages": 2, "num_labels": 5}
SPEECH = {
    "vocab_size": 11, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24,
    "conv_dim": [12, 14], "conv_kernel": [4, 3], "conv_stride": [4, 2], "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2, "num_feat_extract_layers": 2, "apply_spec_augment": False,
}  # fmt: skip

Named = Callable[[torch.dtype], dict[str, Tensor]]
"""The inputs by name, the same at every call."""


def words(_: torch.dtype, length: int = LENGTH, name: str = "input_ids") -> dict[str, Tensor]:
    """Random words."""
    return {
        name: torch.randint(
            3, WORDS, (BATCH, length), generator=torch.Generator().manual_seed(length)
        )
    }


def masked(dtype: torch.dtype) -> dict[str, Tensor]:
    """Random words, and a mask that hides the end of one sentence."""
    mask = torch.ones(BATCH, LENGTH, dtype=torch.long)
    mask[1, -2:] = 0
    return {**words(dtype), "attention_mask": mask}


def pair(dtype: torch.dtype) -> dict[str, Tensor]:
    """A sentence for the encoder and one for the decoder."""
    return {**masked(dtype), **words(dtype, 5, "decoder_input_ids")}


def floats(*shape: int, name: str = "input_features") -> Named:
    """Random numbers of that shape."""
    return lambda dtype: {name: noise(BATCH, *shape, dtype=dtype)}


def pixels(side: int = 16) -> Named:
    return floats(3, side, side, name="pixel_values")


def both(*parts: Named) -> Named:
    """The inputs of several of these."""
    return lambda dtype: {name: value for part in parts for name, value in part(dtype).items()}


def _build(model: str, config: str, options: Mapping[str, Any]) -> nn.Module:
    """The model in eval mode, its weights made larger than their small start, nothing in it constant."""
    import transformers

    made: nn.Module = getattr(transformers, model)(getattr(transformers, config)(**options))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def _arguments(model: str, named: Named, dtype: torch.dtype) -> tuple[Any, ...]:
    """The named inputs by position, the gaps between them filled with the defaults of ``forward``."""
    import transformers

    given = named(dtype)
    parameters = list(inspect.signature(getattr(transformers, model).forward).parameters.values())[
        1:
    ]
    last = max(i for i, parameter in enumerate(parameters) if parameter.name in given)
    return tuple(
        given.get(parameter.name, parameter.default) for parameter in parameters[: last + 1]
    )


def _row(
    name: str,
    family: str,
    model: str,
    config: str,
    options: Mapping[str, Any],
    inputs: Named = masked,
) -> Row:
    return Row(
        name, family, partial(_build, model, config, options), partial(_arguments, model, inputs)
    )


WAVE = floats(160, name="input_values")
ANSWER = partial(words, length=5, name="decoder_input_ids")

ENCODERS = (
    _row("bert", "encoder", "BertForSequenceClassification", "BertConfig", ENCODER),
    _row("roberta", "encoder", "RobertaForMaskedLM", "RobertaConfig", ENCODER),
    _row("xlm-roberta", "encoder", "XLMRobertaForTokenClassification", "XLMRobertaConfig", ENCODER),
    _row("distilbert", "encoder", "DistilBertForSequenceClassification", "DistilBertConfig",
         {"vocab_size": WORDS, "dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 4}),
    _row("electra", "encoder", "ElectraForPreTraining", "ElectraConfig", {**ENCODER, "embedding_size": 12}),
    _row("albert", "encoder", "AlbertForMaskedLM", "AlbertConfig", {**ENCODER, "embedding_size": 12}),
    _row("deberta", "encoder", "DebertaForSequenceClassification", "DebertaConfig",
         {**ENCODER, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 8}),
    _row("deberta-v2", "encoder", "DebertaV2ForSequenceClassification", "DebertaV2Config",
         {**ENCODER, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 4,
          "max_relative_positions": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True}),
    _row("mpnet", "encoder", "MPNetForMaskedLM", "MPNetConfig", ENCODER),
    _row("mobilebert", "encoder", "MobileBertForMaskedLM", "MobileBertConfig",
         {**ENCODER, "embedding_size": 16, "intra_bottleneck_size": 8, "intermediate_size": 20}),
    _row("squeezebert", "encoder", "SqueezeBertForMaskedLM", "SqueezeBertConfig", {**ENCODER, "embedding_size": 16}),
    _row("modernbert", "encoder", "ModernBertForMaskedLM", "ModernBertConfig", {**ENCODER, "pad_token_id": 0}),
    _row("roformer", "encoder", "RoFormerForMaskedLM", "RoFormerConfig", ENCODER),
    _row("nystromformer", "encoder", "NystromformerForMaskedLM", "NystromformerConfig",
         {**ENCODER, "num_landmarks": LENGTH, "segment_means_seq_len": LENGTH, "conv_kernel_size": 3}),
    _row("fnet", "encoder", "FNetForMaskedLM", "FNetConfig", ENCODER, words),
    _row("layoutlm", "encoder", "LayoutLMForMaskedLM", "LayoutLMConfig", ENCODER),
    _row("esm", "encoder", "EsmForMaskedLM", "EsmConfig",
         {**ENCODER, "position_embedding_type": "rotary", "pad_token_id": 0, "mask_token_id": 2}),
    # The gradients of a sentence that the model pads to whole windows are not numbers.
    _row("longformer", "encoder", "LongformerForMaskedLM", "LongformerConfig",
         {**ENCODER, "attention_window": 4}, partial(words, length=8)),
    _row("big_bird", "encoder", "BigBirdForMaskedLM", "BigBirdConfig", {**ENCODER, "attention_type": "original_full"}),
    _row("xlnet", "encoder", "XLNetLMHeadModel", "XLNetConfig",
         {"vocab_size": WORDS, "d_model": 16, "n_layer": 2, "n_head": 4, "d_inner": 24}),
)  # fmt: skip

DECODERS = (
    _row("gpt2", "decoder", "GPT2LMHeadModel", "GPT2Config",
         {"vocab_size": WORDS, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_inner": 24, "n_positions": 32}),
    _row("openai-gpt", "decoder", "OpenAIGPTLMHeadModel", "OpenAIGPTConfig",
         {"vocab_size": WORDS, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32}, words),
    _row("gpt_neo", "decoder", "GPTNeoForCausalLM", "GPTNeoConfig",
         {"vocab_size": WORDS, "hidden_size": 16, "num_layers": 2, "attention_types": [[["global", "local"], 1]],
          "num_heads": 4, "intermediate_size": 24, "max_position_embeddings": 32, "window_size": 4}),
    _row("gptj", "decoder", "GPTJForCausalLM", "GPTJConfig",
         {"vocab_size": WORDS, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_inner": 24, "n_positions": 32,
          "rotary_dim": 2}),
    _row("gpt_neox", "decoder", "GPTNeoXForCausalLM", "GPTNeoXConfig", DECODER),
    _row("gpt_bigcode", "decoder", "GPTBigCodeForCausalLM", "GPTBigCodeConfig",
         {"vocab_size": WORDS, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_inner": 24, "n_positions": 32}),
    _row("codegen", "decoder", "CodeGenForCausalLM", "CodeGenConfig",
         {"vocab_size": WORDS, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_inner": 24, "n_positions": 32,
          "rotary_dim": 2}),
    _row("opt", "decoder", "OPTForCausalLM", "OPTConfig", {**DECODER, "ffn_dim": 24, "word_embed_proj_dim": 16}),
    _row("bloom", "decoder", "BloomForCausalLM", "BloomConfig",
         {"vocab_size": WORDS, "hidden_size": 16, "n_layer": 2, "n_head": 4}),
    _row("mpt", "decoder", "MptForCausalLM", "MptConfig",
         {"vocab_size": WORDS, "d_model": 16, "n_layers": 2, "n_heads": 4, "max_seq_len": 32}),
    _row("falcon", "decoder", "FalconForCausalLM", "FalconConfig", {**DECODER, "ffn_hidden_size": 24}),
    _row("falcon-new", "decoder", "FalconForCausalLM", "FalconConfig",
         {**DECODER, "ffn_hidden_size": 24, "new_decoder_architecture": True, "num_kv_heads": 2}),
    _row("llama", "decoder", "LlamaForCausalLM", "LlamaConfig", GROUPED),
    _row("llama-head_dim", "decoder", "LlamaForCausalLM", "LlamaConfig", {**GROUPED, "head_dim": 6}),
    _row("mistral", "decoder", "MistralForCausalLM", "MistralConfig", {**GROUPED, "sliding_window": 4}),
    _row("qwen2", "decoder", "Qwen2ForCausalLM", "Qwen2Config", GROUPED),
    _row("qwen3", "decoder", "Qwen3ForCausalLM", "Qwen3Config", {**GROUPED, "head_dim": 4}),
    _row("gemma", "decoder", "GemmaForCausalLM", "GemmaConfig", {**GROUPED, "head_dim": 4}),
    _row("gemma2", "decoder", "Gemma2ForCausalLM", "Gemma2Config", {**GROUPED, "head_dim": 4, "sliding_window": 4}),
    _row("gemma3", "decoder", "Gemma3ForCausalLM", "Gemma3TextConfig", {**GROUPED, "head_dim": 4, "sliding_window": 4}),
    _row("phi", "decoder", "PhiForCausalLM", "PhiConfig", GROUPED),
    _row("phi3", "decoder", "Phi3ForCausalLM", "Phi3Config", GROUPED),
    _row("stablelm", "decoder", "StableLmForCausalLM", "StableLmConfig", GROUPED),
    _row("starcoder2", "decoder", "Starcoder2ForCausalLM", "Starcoder2Config", GROUPED),
    _row("olmo", "decoder", "OlmoForCausalLM", "OlmoConfig", GROUPED),
    _row("olmo2", "decoder", "Olmo2ForCausalLM", "Olmo2Config", GROUPED),
    _row("cohere", "decoder", "CohereForCausalLM", "CohereConfig", GROUPED),
    _row("granite", "decoder", "GraniteForCausalLM", "GraniteConfig", GROUPED),
    _row("glm", "decoder", "GlmForCausalLM", "GlmConfig", {**GROUPED, "head_dim": 4}),
    _row("smollm3", "decoder", "SmolLM3ForCausalLM", "SmolLM3Config", GROUPED),
    _row("nemotron", "decoder", "NemotronForCausalLM", "NemotronConfig", GROUPED),
    _row("persimmon", "decoder", "PersimmonForCausalLM", "PersimmonConfig", DECODER),
    _row("biogpt", "decoder", "BioGptForCausalLM", "BioGptConfig", DECODER),
    _row("ctrl", "decoder", "CTRLLMHeadModel", "CTRLConfig",
         {"vocab_size": WORDS, "n_embd": 16, "n_layer": 2, "n_head": 4, "dff": 24, "n_positions": 32}),
)  # fmt: skip

EXPERT_MIXTURES = (
    _row("mixtral", "mixture of experts", "MixtralForCausalLM", "MixtralConfig", EXPERTS),
    _row("mixtral-batched", "mixture of experts", "MixtralForCausalLM", "MixtralConfig",
         {**EXPERTS, "experts_implementation": "batched_mm"}),
    _row("qwen2_moe", "mixture of experts", "Qwen2MoeForCausalLM", "Qwen2MoeConfig",
         {**EXPERTS, "shared_expert_intermediate_size": 20, "decoder_sparse_step": 1}),
    _row("qwen3_moe", "mixture of experts", "Qwen3MoeForCausalLM", "Qwen3MoeConfig", {**EXPERTS, "head_dim": 4}),
    _row("olmoe", "mixture of experts", "OlmoeForCausalLM", "OlmoeConfig", EXPERTS),
    _row("granitemoe", "mixture of experts", "GraniteMoeForCausalLM", "GraniteMoeConfig", EXPERTS),
    _row("deepseek_v3", "mixture of experts", "DeepseekV3ForCausalLM", "DeepseekV3Config",
         {**EXPERTS, "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 2, "topk_group": 1,
          "n_shared_experts": 1, "first_k_dense_replace": 1, "q_lora_rank": 6, "kv_lora_rank": 5,
          "qk_nope_head_dim": 4, "qk_rope_head_dim": 2, "v_head_dim": 3}),
    _row("switch_transformers", "mixture of experts", "SwitchTransformersForConditionalGeneration",
         "SwitchTransformersConfig",
         {**T5, "num_experts": 4, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1,
          "num_decoder_layers": 2, "expert_capacity": 8}, pair),
    _row("gpt_oss", "mixture of experts", "GptOssForCausalLM", "GptOssConfig",
         {**EXPERTS, "head_dim": 4, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"],
          "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}),
)  # fmt: skip

ENCODER_DECODERS = (
    _row("t5", "encoder-decoder", "T5ForConditionalGeneration", "T5Config", T5, pair),
    _row("t5-gated", "encoder-decoder", "T5ForConditionalGeneration", "T5Config",
         {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}, pair),
    _row("mt5", "encoder-decoder", "MT5ForConditionalGeneration", "MT5Config", T5, pair),
    _row("longt5", "encoder-decoder", "LongT5ForConditionalGeneration", "LongT5Config",
         {**T5, "local_radius": 3, "global_block_size": 4}, pair),
    _row("bart", "encoder-decoder", "BartForConditionalGeneration", "BartConfig", SEQ2SEQ, pair),
    _row("mbart", "encoder-decoder", "MBartForConditionalGeneration", "MBartConfig", SEQ2SEQ, pair),
    _row("marian", "encoder-decoder", "MarianMTModel", "MarianConfig", SEQ2SEQ, pair),
    _row("pegasus", "encoder-decoder", "PegasusForConditionalGeneration", "PegasusConfig", SEQ2SEQ, pair),
    _row("blenderbot", "encoder-decoder", "BlenderbotForConditionalGeneration", "BlenderbotConfig", SEQ2SEQ, pair),
    _row("m2m_100", "encoder-decoder", "M2M100ForConditionalGeneration", "M2M100Config", SEQ2SEQ, pair),
    _row("led", "encoder-decoder", "LEDForConditionalGeneration", "LEDConfig",
         {**SEQ2SEQ, "attention_window": 4, "max_encoder_position_embeddings": 32,
          "max_decoder_position_embeddings": 32}, pair),
    _row("prophetnet", "encoder-decoder", "ProphetNetForConditionalGeneration", "ProphetNetConfig",
         {"vocab_size": WORDS, "hidden_size": 16, "num_encoder_layers": 2, "num_decoder_layers": 2,
          "num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4, "encoder_ffn_dim": 24,
          "decoder_ffn_dim": 28, "max_position_embeddings": 32}, both(words, ANSWER)),
)  # fmt: skip

VISION = (
    _row("vit", "vision", "ViTForImageClassification", "ViTConfig", PATCHES, pixels()),
    _row("deit", "vision", "DeiTForImageClassification", "DeiTConfig", PATCHES, pixels()),
    _row("beit", "vision", "BeitForImageClassification", "BeitConfig",
         {**PATCHES, "use_relative_position_bias": True, "use_shared_relative_position_bias": False}, pixels()),
    _row("data2vec-vision", "vision", "Data2VecVisionForImageClassification", "Data2VecVisionConfig", PATCHES,
         pixels()),
    _row("dinov2", "vision", "Dinov2ForImageClassification", "Dinov2Config", {**PATCHES, "mlp_ratio": 2}, pixels()),
    _row("vit_msn", "vision", "ViTMSNForImageClassification", "ViTMSNConfig", PATCHES, pixels()),
    _row("yolos", "vision", "YolosForObjectDetection", "YolosConfig",
         {**PATCHES, "image_size": [16, 16], "num_detection_tokens": 3}, pixels()),
    _row("swin", "vision", "SwinForImageClassification", "SwinConfig",
         {**STAGES, "image_size": 32, "patch_size": 4, "embed_dim": 8, "num_heads": [2, 4], "window_size": 4},
         pixels(32)),
    _row("swinv2", "vision", "Swinv2ForImageClassification", "Swinv2Config",
         {**STAGES, "image_size": 32, "patch_size": 4, "embed_dim": 8, "num_heads": [2, 4], "window_size": 4},
         pixels(32)),
    _row("convnext", "vision", "ConvNextForImageClassification", "ConvNextConfig",
         {**STAGES, "hidden_sizes": [8, 12]}, pixels(32)),
    _row("convnextv2", "vision", "ConvNextV2ForImageClassification", "ConvNextV2Config",
         {**STAGES, "hidden_sizes": [8, 12]}, pixels(32)),
    _row("resnet", "vision", "ResNetForImageClassification", "ResNetConfig",
         {**STAGES, "embedding_size": 6, "hidden_sizes": [8, 12]}, pixels(32)),
    _row("regnet", "vision", "RegNetForImageClassification", "RegNetConfig",
         {"embedding_size": 6, "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 2, 1], "groups_width": 4,
          "num_labels": 5}, pixels(32)),
    _row("segformer", "vision", "SegformerForSemanticSegmentation", "SegformerConfig",
         {"num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1], "hidden_sizes": [8, 12],
          "patch_sizes": [7, 3], "strides": [4, 2], "num_attention_heads": [2, 3], "mlp_ratios": [2, 2],
          "decoder_hidden_size": 10, "num_labels": 5}, pixels(32)),
    _row("pvt", "vision", "PvtForImageClassification", "PvtConfig",
         {"image_size": 32, "num_encoder_blocks": 2, "depths": [1, 1], "sequence_reduction_ratios": [2, 1],
          "hidden_sizes": [8, 12], "patch_sizes": [4, 2], "strides": [4, 2], "num_attention_heads": [2, 3],
          "mlp_ratios": [2, 2], "num_labels": 5}, pixels(32)),
    _row("cvt", "vision", "CvtForImageClassification", "CvtConfig",
         {"embed_dim": [8, 12, 16], "num_heads": [2, 3, 4], "depth": [1, 2, 3], "num_labels": 5}, pixels(32)),
    _row("levit", "vision", "LevitForImageClassification", "LevitConfig",
         {"image_size": 64, "hidden_sizes": [8, 12, 16], "num_attention_heads": [2, 3, 4], "depths": [1, 1, 1],
          "key_dim": [4, 4, 4], "mlp_ratio": [2, 2, 2], "num_labels": 5}, pixels(64)),
    _row("mobilenet_v1", "vision", "MobileNetV1ForImageClassification", "MobileNetV1Config",
         {"image_size": 32, "depth_multiplier": 0.25, "num_labels": 5}, pixels(32)),
    _row("mobilenet_v2", "vision", "MobileNetV2ForImageClassification", "MobileNetV2Config",
         {"image_size": 128, "depth_multiplier": 0.25, "num_labels": 5}, pixels(128)),
    _row("mobilevit", "vision", "MobileViTForImageClassification", "MobileViTConfig",
         {"image_size": 32, "patch_size": 2, "hidden_sizes": [12, 16, 20],
          "neck_hidden_sizes": [4, 8, 8, 12, 12, 16, 20], "num_attention_heads": 4, "mlp_ratio": 2.0,
          "num_labels": 5}, pixels(64)),
    _row("efficientnet", "vision", "EfficientNetForImageClassification", "EfficientNetConfig",
         {"image_size": 32, "width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320, "num_labels": 5},
         pixels(32)),
    _row("poolformer", "vision", "PoolFormerForImageClassification", "PoolFormerConfig",
         {"depths": [1, 1], "hidden_sizes": [8, 12], "num_encoder_blocks": 2, "patch_sizes": [7, 3],
          "strides": [4, 2], "padding": [2, 1], "num_labels": 5}, pixels(32)),
    _row("focalnet", "vision", "FocalNetForImageClassification", "FocalNetConfig",
         {"image_size": 32, "embed_dim": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "focal_levels": [2, 2],
          "focal_windows": [3, 3], "num_labels": 5}, pixels(32)),
    _row("dpt", "vision", "DPTForDepthEstimation", "DPTConfig",
         {**PATCHES, "neck_hidden_sizes": [8, 8, 8, 8], "fusion_hidden_size": 8, "num_hidden_layers": 4,
          "backbone_out_indices": [0, 1, 2, 3], "is_hybrid": False}, pixels()),
)  # fmt: skip

_TEXT_TOWER = {**ENCODER, "projection_dim": 10, "eos_token_id": 2}
_VISION_TOWER = {**{k: v for k, v in PATCHES.items() if k != "num_labels"}, "projection_dim": 10}
MULTIMODAL = (
    _row("clip", "multimodal", "CLIPModel", "CLIPConfig",
         {"text_config": _TEXT_TOWER, "vision_config": _VISION_TOWER, "projection_dim": 10}, both(masked, pixels())),
    _row("siglip", "multimodal", "SiglipModel", "SiglipConfig",
         {"text_config": _TEXT_TOWER, "vision_config": _VISION_TOWER}, both(masked, pixels())),
    _row("blip", "multimodal", "BlipModel", "BlipConfig",
         {"text_config": {**_TEXT_TOWER, "is_decoder": False}, "vision_config": _VISION_TOWER, "projection_dim": 10},
         both(masked, pixels())),
    _row("vilt", "multimodal", "ViltModel", "ViltConfig", {**PATCHES, **ENCODER, "max_image_length": -1},
         both(masked, pixels())),
)  # fmt: skip

AUDIO = (
    _row("wav2vec2", "audio", "Wav2Vec2ForCTC", "Wav2Vec2Config", SPEECH, WAVE),
    _row("wav2vec2-stable", "audio", "Wav2Vec2ForCTC", "Wav2Vec2Config",
         {**SPEECH, "do_stable_layer_norm": True, "feat_extract_norm": "layer"}, WAVE),
    _row("hubert", "audio", "HubertForCTC", "HubertConfig", SPEECH, WAVE),
    _row("wavlm", "audio", "WavLMForCTC", "WavLMConfig", SPEECH, WAVE),
    _row("unispeech", "audio", "UniSpeechForCTC", "UniSpeechConfig", SPEECH, WAVE),
    _row("sew", "audio", "SEWForCTC", "SEWConfig", {**SPEECH, "squeeze_factor": 2}, WAVE),
    _row("whisper", "audio", "WhisperForConditionalGeneration", "WhisperConfig",
         {**{k: v for k, v in SEQ2SEQ.items() if k != "forced_eos_token_id"}, "num_mel_bins": 6,
          "max_source_positions": 10, "max_target_positions": 12},
         both(floats(6, 20), ANSWER)),
    _row("audio_spectrogram_transformer", "audio", "ASTForAudioClassification", "ASTConfig",
         {**{k: v for k, v in PATCHES.items() if k not in ("image_size", "num_channels")}, "frequency_stride": 4,
          "time_stride": 4, "max_length": 16, "num_mel_bins": 8}, floats(16, 8, name="input_values")),
    _row("speech_to_text", "audio", "Speech2TextForConditionalGeneration", "Speech2TextConfig",
         {**{k: v for k, v in SEQ2SEQ.items() if k != "forced_eos_token_id"}, "input_feat_per_channel": 6,
          "conv_channels": 10, "max_source_positions": 40, "max_target_positions": 12},
         both(floats(20, 6), ANSWER)),
    _row("encodec", "audio", "EncodecModel", "EncodecConfig",
         {"num_filters": 4, "hidden_size": 8, "codebook_size": 8, "codebook_dim": 8, "num_lstm_layers": 1,
          "upsampling_ratios": [4, 2], "target_bandwidths": [1.5], "sampling_rate": 800},
         floats(1, 160, name="input_values")),
)  # fmt: skip

STATE_SPACE = (
    _row("mamba", "state space", "MambaForCausalLM", "MambaConfig",
         {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 5, "intermediate_size": 24,
          "time_step_rank": 3}, words),
    _row("mamba2", "state space", "Mamba2ForCausalLM", "Mamba2Config",
         {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 5, "num_heads": 4,
          "head_dim": 8, "n_groups": 2, "chunk_size": 4}, words),
    _row("falcon_mamba", "state space", "FalconMambaForCausalLM", "FalconMambaConfig",
         {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 5, "intermediate_size": 24,
          "time_step_rank": 3}, words),
    _row("rwkv", "state space", "RwkvForCausalLM", "RwkvConfig",
         {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "attention_hidden_size": 16,
          "intermediate_size": 24}, words),
    _row("recurrent_gemma", "state space", "RecurrentGemmaForCausalLM", "RecurrentGemmaConfig",
         {**DECODER, "num_hidden_layers": 3, "num_key_value_heads": 1, "lru_width": 16, "attention_window_size": 4},
         words),
    _row("bamba", "state space", "BambaForCausalLM", "BambaConfig",
         {**GROUPED, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 5,
          "mamba_chunk_size": 4, "attn_layer_indices": [1]}),
)  # fmt: skip

ROWS: tuple[Row, ...] = (
    *ENCODERS, *DECODERS, *EXPERT_MIXTURES, *ENCODER_DECODERS, *VISION, *MULTIMODAL, *AUDIO, *STATE_SPACE,
)  # fmt: skip
