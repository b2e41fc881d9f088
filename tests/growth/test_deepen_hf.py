"""Transformers get deeper: their config follows, they load again, and they generate as before."""

from pathlib import Path
from typing import Any

import pytest
import torch

import fxgrow
from tests.networks import randomised

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("default")

WORDS = torch.randint(0, 40, (2, 6), generator=torch.Generator().manual_seed(0))
LLAMA = {
    "vocab_size": 40, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "pad_token_id": 0,
}  # fmt: skip
GPT2 = {"vocab_size": 40, "n_embd": 8, "n_layer": 3, "n_head": 2, "n_positions": 16}
T5 = {
    "vocab_size": 40, "d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 2, "num_heads": 2,
    "pad_token_id": 0, "decoder_start_token_id": 0,
}  # fmt: skip
PAIR = {"input_ids": WORDS, "decoder_input_ids": WORDS[:, :3]}
OPTIONS = {"max_new_tokens": 5, "do_sample": False, "use_cache": True, "pad_token_id": 0}


def made(name: str, config: dict[str, Any]) -> Any:
    kind = getattr(transformers, name)
    return randomised(kind(kind.config_class(**config)))


def generated(model: Any) -> torch.Tensor:
    return model.generate(WORDS[:, :3], **OPTIONS)


@pytest.mark.parametrize(
    ("name", "path", "config", "where", "fields"),
    [
        ("GPT2LMHeadModel", "transformer.h", GPT2, {"end"}, {"config.n_layer": 5}),
        ("LlamaForCausalLM", "model.layers", LLAMA, {0, 2}, {"config.num_hidden_layers": 5}),
        (
            "Gemma2ForCausalLM",
            "model.layers",
            LLAMA,
            {0, 1},
            {
                "config.num_hidden_layers": 5,
                "config.layer_types": [
                    "sliding_attention", "sliding_attention", "full_attention", "full_attention",
                    "sliding_attention",
                ],
            },
        ),
    ],
)  # fmt: skip
def test_a_deeper_language_model(
    name: str, path: str, config: dict[str, Any], where: Any, fields: Any, tmp_path: Path
) -> None:
    small = made(name, config)
    blocks: Any = {path: 2 if where == {"end"} else sorted(where)}
    deeper = fxgrow.deepen(small, blocks, {"input_ids": WORDS})
    assert deeper.config is not None and deeper.config.fields == fields
    assert torch.equal(deeper.module(WORDS).logits, small(WORDS).logits)
    deeper.module.save_pretrained(tmp_path)
    loaded = type(small).from_pretrained(tmp_path, dtype=torch.float64).eval()
    torch.testing.assert_close(loaded(WORDS).logits, small(WORDS).logits, rtol=1e-5, atol=1e-5)
    # Each block has a place of its own in the key-value cache.
    assert torch.equal(generated(deeper.module), generated(small))
    assert torch.equal(generated(loaded), generated(small))


def test_encoder_and_decoder() -> None:
    small = made("T5ForConditionalGeneration", T5)
    # transformers itself cannot generate with a T5 whose decoder is deeper than its encoder.
    blocks = {"encoder.block": 2, "decoder.block": 1}
    deeper = fxgrow.deepen(small, blocks, PAIR)
    assert deeper.config is not None
    assert deeper.config.fields == {"config.num_layers": 4, "config.num_decoder_layers": 3}
    assert torch.equal(deeper.module(**PAIR).logits, small(**PAIR).logits)
    assert torch.equal(generated(deeper.module), generated(small))


def test_the_callers_config_stays() -> None:
    small = made("GPT2LMHeadModel", GPT2)
    other = {"input_ids": WORDS[:1, :2]}
    deeper = fxgrow.deepen(small, {"transformer.h": 1}, {"input_ids": WORDS}, examples=[other])
    assert deeper.config is not None and deeper.config.fields == {"config.n_layer": 4}
    assert small.config.n_layer == 3 and len(small.transformer.h) == 3


def test_a_stacked_model_loads_again(tmp_path: Path) -> None:
    small = made("LlamaForCausalLM", LLAMA)
    stacked = fxgrow.deepen(small, {"model.layers": 3}, {"input_ids": WORDS}, how="stack").module
    stacked.save_pretrained(tmp_path)
    loaded = type(small).from_pretrained(tmp_path, dtype=torch.float64).eval()
    torch.testing.assert_close(loaded(WORDS).logits, stacked(WORDS).logits, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(stacked(WORDS).logits, small(WORDS).logits)


def test_post_norm_is_refused() -> None:
    config = {"vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 2}
    config |= {"num_attention_heads": 2, "intermediate_size": 12}
    with pytest.raises(fxgrow.GrowthError, match="post-norm"):
        fxgrow.deepen(made("BertModel", config), {"encoder.layer": 1}, {"input_ids": WORDS})
