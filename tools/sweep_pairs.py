"""Pairs of models of one family, small and big: which start with the function of the small one.

    python -m tools.sweep_pairs --out docs/results/pairs.json

Small models with random weights, in float64; of transformers, timm and torchvision. ``equal`` if the bigger model has the
output of the smaller one (to 1e-9, or to float32's rounding where a norm computes in float32 by a cast of its own);
else the code and the sentence of the refusal.
"""

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import fxgrow
from tools import sweep

Pair = Callable[[], tuple[nn.Module, nn.Module, Any]]
"""Makes the small model, the big one, and example inputs."""

WORDS = torch.randint(0, 50, (2, 12), generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()


def language(model: str, config: str, small: dict[str, Any], big: dict[str, Any]) -> Pair:
    """Two models of transformers."""

    def pair() -> tuple[nn.Module, nn.Module, Any]:
        import transformers

        kind, settings = getattr(transformers, model), getattr(transformers, config)
        common = {"vocab_size": 50, "use_cache": False}
        made = [kind(settings(**common | sizes)) for sizes in (small, small | big)]
        return made[0], made[1], {"input_ids": WORDS}

    return pair


def vision(library: str, name: str, small: dict[str, Any], big: dict[str, Any]) -> Pair:
    """Two models of timm or torchvision."""

    def pair() -> tuple[nn.Module, nn.Module, Any]:
        if library == "timm":
            import timm

            made = [timm.create_model(name, **sizes) for sizes in (small, small | big)]
        else:
            import torchvision

            factory = getattr(torchvision.models, name)
            made = [factory(**sizes) for sizes in (small, small | big)]
        return made[0], made[1], (IMAGES,)

    return pair


def models(library: str, small: str, big: str, sizes: dict[str, Any] | None = None) -> Pair:
    """Two models of timm or torchvision with names of their own; ``sizes`` are the big one's."""

    def pair() -> tuple[nn.Module, nn.Module, Any]:
        first, _, inputs = vision(library, small, {"num_classes": 5}, {})()
        second, _, _ = vision(library, big, {"num_classes": 5, **(sizes or {})}, {})()
        return first, second, inputs

    return pair


LLAMA = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8,
}  # fmt: skip
BIG_LLAMA = {
    "hidden_size": 72, "intermediate_size": 96, "num_attention_heads": 8, "num_key_value_heads": 4,
}  # fmt: skip
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 64, "n_positions": 16}
BERT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 16,
}  # fmt: skip
VIT = {
    "img_size": 32, "patch_size": 8, "num_classes": 5, "depth": 2, "embed_dim": 48, "num_heads": 3,
}  # fmt: skip
PAIRS: dict[str, Pair] = {
    "GPT-2, stream and heads and MLP": language(
        "GPT2LMHeadModel", "GPT2Config", GPT2, {"n_embd": 80, "n_head": 10, "n_inner": 160}
    ),
    "Llama, grouped queries": language("LlamaForCausalLM", "LlamaConfig", LLAMA, BIG_LLAMA),
    "Qwen3": language("Qwen3ForCausalLM", "Qwen3Config", LLAMA, BIG_LLAMA),
    "Mistral": language("MistralForCausalLM", "MistralConfig", LLAMA, BIG_LLAMA),
    "OPT": language(
        "OPTForCausalLM",
        "OPTConfig",
        {
            "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "word_embed_proj_dim": 32, "max_position_embeddings": 16,
        },
        {"hidden_size": 48, "word_embed_proj_dim": 48, "num_attention_heads": 6, "ffn_dim": 100},
    ),
    "BERT, twice the stream": language(
        "BertForMaskedLM", "BertConfig", BERT, {"hidden_size": 64, "num_attention_heads": 8}
    ),
    "BERT, MLP": language("BertForMaskedLM", "BertConfig", BERT, {"intermediate_size": 100}),
    "ViT, Ti to S": vision(
        "timm", "vit_tiny_patch16_224", VIT, {"embed_dim": 96, "num_heads": 6}
    ),
    "ConvNeXt": vision(
        "timm",
        "convnext_atto",
        {"dims": (16, 24, 32, 40), "depths": (1, 1, 1, 1), "num_classes": 5},
        {"dims": (32, 48, 64, 80)},
    ),
    "MobileNet-V2, 0.5 to 1.0": vision(
        "torchvision", "mobilenet_v2", {"width_mult": 0.5}, {"width_mult": 1.0}
    ),
    "GPT-2, twice as deep": language(
        "GPT2LMHeadModel", "GPT2Config", GPT2, {"n_layer": 4}
    ),
    "GPT-2, stream and heads and MLP and blocks": language(
        "GPT2LMHeadModel",
        "GPT2Config",
        GPT2,
        {"n_embd": 80, "n_head": 10, "n_inner": 160, "n_layer": 4},
    ),
    "Llama, grouped queries, and blocks": language(
        "LlamaForCausalLM", "LlamaConfig", LLAMA, {**BIG_LLAMA, "num_hidden_layers": 5}
    ),
    "Gemma-2, blocks": language(
        "Gemma2ForCausalLM", "Gemma2Config", LLAMA, {"num_hidden_layers": 5}
    ),
    "T5, blocks": language(
        "T5EncoderModel",
        "T5Config",
        {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
        {"d_ff": 96, "num_layers": 4},
    ),
    "Mixtral, blocks": language(
        "MixtralForCausalLM",
        "MixtralConfig",
        {**LLAMA, "num_local_experts": 3, "experts_implementation": "eager"},
        {"num_hidden_layers": 4},
    ),
    "BERT, twice as deep": language(
        "BertForMaskedLM", "BertConfig", BERT, {"num_hidden_layers": 4}
    ),
    "ViT, Ti to S, twice as deep": vision(
        "timm", "vit_tiny_patch16_224", VIT, {"embed_dim": 96, "num_heads": 6, "depth": 4}
    ),
    "ConvNeXt, deeper": vision(
        "timm",
        "convnext_atto",
        {"dims": (16, 24, 32, 40), "depths": (1, 1, 2, 1), "num_classes": 5},
        {"depths": (2, 2, 6, 2)},
    ),
    "Swin-T to Swin-S": models("torchvision", "swin_t", "swin_s"),
    "ResNet-18 to ResNet-34": models("timm", "resnet18", "resnet34"),
    "ResNet-18 to ResNet-34, 1.5 times as wide behind its first stage": models(
        "timm", "resnet18", "resnet34", {"channels": (64, 192, 384, 768)}
    ),
    "ResNet-26, wider inside its blocks": vision(
        "timm", "resnet26", {"num_classes": 5}, {"base_width": 96}
    ),
}  # fmt: skip


def main() -> None:
    """Run all pairs, and write what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", default=None)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    lines = []
    for name, pair in PAIRS.items():
        if chosen.only is None or name in chosen.only:
            lines.append({"pair": name} | outcome(pair))
            print(json.dumps(lines[-1]), flush=True)
    if chosen.out is not None:
        record = {"command": "python -m tools.sweep_pairs", "pairs": lines}
        chosen.out.write_text(json.dumps(record, indent=1) + "\n")


def outcome(pair: Pair) -> dict[str, Any]:
    """What comes of one pair."""
    torch.manual_seed(0)
    small, big, inputs = pair()
    small = sweep.randomise(small.double()).eval()
    sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in (small, big)]
    told: dict[str, Any] = {"parameters": sizes}
    try:
        grown = fxgrow.grow_to(small, big, inputs).module.eval()
    except fxgrow.FxgrowError as error:
        return told | {"outcome": "refused", "code": error.code, "message": str(error)[:400]}
    with torch.no_grad():
        error = sweep.change(sweep.call(grown, inputs), sweep.call(small, inputs))
    return told | {"outcome": "equal", "error": error}


if __name__ == "__main__":
    main()
