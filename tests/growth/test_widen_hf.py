"""Hugging Face models widened in place: same class, same function, and a config with which they can be loaded again."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fxgrow
from fxgrow.capture import positional_inputs
from fxgrow.coupling import couple
from fxgrow.errors import GrowthError
from fxgrow.growth.widen import widen
from tests.networks import randomised

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("default")

TEXT = {
    "vocab_size": 31,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
}
LLAMA = {**TEXT, "num_key_value_heads": 2, "pad_token_id": 0}
WORDS = {
    "input_ids": torch.arange(1, 11).view(2, 5),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
}
PAIR = {**WORDS, "decoder_input_ids": torch.arange(3, 9).view(2, 3)}
T5 = {
    "vocab_size": 31,
    "d_model": 16,
    "d_kv": 4,
    "d_ff": 24,
    "num_layers": 1,
    "num_heads": 3,
    "pad_token_id": 0,
}
VIT = {**TEXT, "image_size": 8, "patch_size": 4}
SWIN = {
    "image_size": 16,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [2, 4],
    "window_size": 4,
}
CONVOLUTIONS = {"embedding_size": 6, "hidden_sizes": [8, 12], "depths": [1, 1]}


def pixels(side: int) -> dict[str, Tensor]:
    return {
        "pixel_values": torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    }


def model_of(name: str, options: dict[str, Any]) -> Any:
    """A model with random weights, none of them constant, in float64."""
    torch.manual_seed(0)
    kind = getattr(transformers, name)
    model = kind(kind.config_class(**options)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def doubled(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Images in float64, words as they are."""
    return {name: x.double() if x.is_floating_point() else x for name, x in inputs.items()}


def growable(model: Any, inputs: dict[str, Tensor], pattern: str) -> dict[str, int]:
    """The sizes of the growable widths that fit a pattern."""
    widths = couple(model, positional_inputs(model, inputs)).widths
    return {
        width.name: width.size
        for width in widths
        if width.growable and fnmatchcase(width.name, pattern)
    }


# model, its config, inputs, pattern of widths, neurons (a fraction of the width, or a number), the config's new fields
ROUND_TRIPS: dict[
    str, tuple[str, dict[str, Any], dict[str, Tensor], str, float, dict[str, Any]]
] = {
    "bert": (
        "BertForMaskedLM",
        TEXT,
        WORDS,
        "*.intermediate.dense",
        4,
        {"config.intermediate_size": 28},
    ),
    "llama": ("LlamaForCausalLM", LLAMA, WORDS, "*mlp*", 4, {"config.intermediate_size": 28}),
    "llama heads": (
        "LlamaForCausalLM",
        LLAMA,
        WORDS,
        "*self_attn*",
        2,
        {"config.num_attention_heads": 8, "config.num_key_value_heads": 4},
    ),
    "t5": ("T5ForConditionalGeneration", T5, PAIR, "*DenseReluDense*", 4, {"config.d_ff": 28}),
    "vit": (
        "ViTForImageClassification",
        VIT,
        pixels(8),
        "*fc1",
        4,
        {"config.intermediate_size": 28},
    ),
    "swin": (
        "SwinForImageClassification",
        SWIN,
        pixels(16),
        "*fc1",
        0.5,
        {"config.mlp_ratio": 6.0},
    ),
    "resnet": (
        "ResNetForImageClassification",
        CONVOLUTIONS,
        pixels(32),
        "*",
        0.5,
        {"config.embedding_size": 9, "config.hidden_sizes.0": 12, "config.hidden_sizes.1": 18},
    ),
}


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_saved_and_loaded_again(name: str, tmp_path: Path) -> None:
    kind, options, inputs, pattern, more, fields = ROUND_TRIPS[name]
    model, inputs = model_of(kind, options), doubled(inputs)
    sizes = growable(model, inputs, pattern)
    expected = model(**inputs)[0].detach()
    amounts = {width: int(size * more) if more < 1 else int(more) for width, size in sizes.items()}
    result = widen(model, amounts, inputs, inplace=True)
    assert result.module is model and result.config is not None
    assert result.config.fields == fields
    found = model(**inputs)[0].detach()
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-9
    model.save_pretrained(tmp_path)
    kind_of: Any = type(model)
    again = kind_of.from_pretrained(tmp_path, dtype=torch.float64).eval()
    for parameter in (
        again.parameters()
    ):  # a file's tensors are not aligned, which alone costs the last bit of products
        parameter.data = parameter.data.clone()
    assert torch.equal(again(**inputs)[0], found)
    assert all(
        torch.equal(value, model.state_dict()[key]) for key, value in again.state_dict().items()
    )


NOT_DESCRIBED = {
    # heads of BERT share its hidden size, a block of ConvNeXt is always four times as wide inside
    "bert": ("BertForMaskedLM", TEXT, WORDS, "*.query"),
    "convnext": (
        "ConvNextForImageClassification",
        {**CONVOLUTIONS, "num_stages": 2},
        pixels(32),
        "*",
    ),
    # one of two layers only
    "uneven": ("LlamaForCausalLM", LLAMA, WORDS, "*layers.1.mlp*"),
}


@pytest.mark.parametrize("name", NOT_DESCRIBED)
def test_what_no_config_describes(name: str) -> None:
    kind, options, inputs, pattern = NOT_DESCRIBED[name]
    model, inputs = model_of(kind, options), doubled(inputs)
    expected, before = model(**inputs)[0], model.config.to_dict()
    result = widen(model, {pattern: 2}, inputs, inplace=True)
    assert result.config is not None and not result.config.fields
    assert "unchanged: no values of its fields" in result.config.note
    assert model.config.to_dict() == before
    torch.testing.assert_close(model(**inputs)[0], expected, rtol=1e-9, atol=1e-9)


def test_attributes_and_the_configs_of_parts_follow() -> None:
    model = model_of("T5ForConditionalGeneration", T5)
    other = type(model)(model.config)
    widen(model, {"*DenseReluDense*": 4}, PAIR, inplace=True)
    assert (model.config.d_ff, model.encoder.config.d_ff, model.decoder.config.d_ff) == (28, 28, 28)
    assert other.config.d_ff == 24
    llama = model_of("LlamaForCausalLM", LLAMA)
    widen(llama, {"*self_attn*": 2}, WORDS, inplace=True)
    assert llama.model.layers[0].self_attn.num_key_value_groups == 2
    assert llama.model.layers[0].self_attn.config.num_attention_heads == 8


@pytest.mark.parametrize("name", ["bert", "llama", "vit"])
def test_grown_within_what_the_config_says(name: str, tmp_path: Path) -> None:
    kind, options, inputs, *_ = ROUND_TRIPS[name]
    model = model_of(kind, options)
    loss = fxgrow.BatchLoss(lambda model, batch: model(**batch).logits.square().mean())
    growth = fxgrow.grow(model, [doubled(inputs)], loss, expressible=True, accept_no_gain=True)
    grown: Any = growth.module
    assert grown.config.intermediate_size > model.config.intermediate_size
    grown.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path, dtype=torch.double).eval()
    found, expected = (one(**doubled(inputs)).logits for one in (loaded, grown.eval()))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def test_a_stream_of_experts_that_a_grouped_product_applies() -> None:
    """The kernel has no float64, and wants rows of a multiple of 16 bytes."""
    config = {**LLAMA, "num_local_experts": 3, "num_experts_per_tok": 2}
    model = transformers.MixtralForCausalLM(transformers.MixtralConfig(**config))
    model = randomised(model).float()
    assert model.config._experts_implementation == "grouped_mm"
    for amounts in ({"model.embed_tokens": 4}, {"model.layers.0.mlp.experts": 4}):
        wider: Any = widen(model, amounts, WORDS, how="new")
        assert wider.preservation_error < 1e-5
        torch.testing.assert_close(wider.module(**WORDS).logits, model(**WORDS).logits, **CLOSE)
    with pytest.raises(GrowthError, match="does not run: strides should be multiple of 16 bytes"):
        widen(model, {"model.embed_tokens": 1}, WORDS, how="new")
