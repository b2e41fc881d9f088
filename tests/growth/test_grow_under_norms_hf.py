"""Streams of Hugging Face models as candidates of ``grow``: Llama, tied GPT-2, ViT with its class token."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fxgrow
from fxgrow.growth import BatchLoss
from fxgrow.methods import Firefly, ZeroOutgoing
from tests.growth.test_widen_hf import LLAMA, TEXT, VIT, WORDS, doubled, model_of, pixels

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("default")

FIREFLY = Firefly(new=4, steps=2, refine_steps=1, points=1)
GPT2 = {
    "vocab_size": 31,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 8,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Tensor], str]] = {
    "llama": ("LlamaForCausalLM", LLAMA, WORDS, "model.embed_tokens"),
    "gpt2": ("GPT2LMHeadModel", GPT2, WORDS, "transformer.wte"),
    "vit": (
        "ViTForImageClassification",
        VIT,
        pixels(8),
        "vit.embeddings.patch_embeddings.projection",
    ),
}


def loss(model: Any, batch: dict[str, Tensor]) -> Tensor:
    logits: Tensor = model(**batch).logits
    return logits.square().mean() + logits[..., 0].mean()


def grown(model: Any, inputs: dict[str, Tensor], only: list[str], **options: Any) -> Any:
    batches, options = [inputs] * 3, {"method": FIREFLY, **options}
    return fxgrow.grow(model, batches, BatchLoss(loss), example_inputs=inputs, only=only, **options)


@pytest.mark.parametrize("name", MODELS)
def test_the_stream_grows_beside_everything_else(name: str) -> None:
    kind, config, inputs, stream = MODELS[name]
    model, inputs = model_of(kind, config), doubled(inputs)
    # More than all other widths have candidates for, so that some are the stream's.
    growth = grown(model, inputs, ["*mlp*", stream], budget=fxgrow.Budget(neurons=60))
    after = {change.width: change.after for change in growth.report.widths}
    assert after[stream] > 16
    # Norms that cast to float32 cost its digits, which float64 excuses.
    exact = 1e-5 if name == "llama" else 1e-11
    assert growth.report.faithful_error < exact
    assert growth.report.preservation_error < exact
    assert bool(growth.report.unchecked) == (name == "llama")
    assert type(growth.module) is type(model)


def test_a_config_describes_a_stream_that_grew(tmp_path: Path) -> None:
    model = model_of("LlamaForCausalLM", {**LLAMA, "head_dim": 4})
    budget = fxgrow.Budget(neurons=4)
    options = {"method": ZeroOutgoing(), "budget": budget, "expressible": True}
    growth = grown(model, WORDS, ["model.embed_tokens"], **options)
    assert growth.module.config.hidden_size == TEXT["hidden_size"] + 4
    growth.module.save_pretrained(tmp_path)
    again = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float64).eval()
    assert torch.equal(again(**WORDS).logits, growth.module(**WORDS).logits)


def test_without_a_rule_the_reason_names_the_sizes_that_work() -> None:
    model = model_of("BertForMaskedLM", TEXT)
    stream = "bert.embeddings.word_embeddings"
    growth = grown(model, WORDS, ["*intermediate.dense", stream], budget=fxgrow.Budget(neurons=2))
    refusal = growth.report.refusals[stream]
    assert refusal.code == "normalised"
    assert "post-norm" in refusal.reason
    assert "16, 32, ... neurons more" in refusal.reason
