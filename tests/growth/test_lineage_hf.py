"""Transformers that ``deepen`` made deeper grow so again, and blocks are placed by what they gain."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.growth import described_model, regrow, replay
from tests.networks import randomised

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("default")

WORDS = torch.randint(0, 40, (2, 6), generator=torch.Generator().manual_seed(0))
PIXELS = torch.randn(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
CONFIGS: Mapping[str, dict[str, Any]] = {
    "GPT2LMHeadModel": {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16},
    "LlamaForCausalLM": {
        "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0,
    },
    "ViTForImageClassification": {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 8, "patch_size": 4, "num_channels": 1, "num_labels": 3,
    },
}  # fmt: skip
CASES = [
    ("GPT2LMHeadModel", {"input_ids": WORDS}, WORDS),
    ("LlamaForCausalLM", {"input_ids": WORDS}, WORDS),
    ("ViTForImageClassification", {"pixel_values": PIXELS}, torch.tensor([0, 2])),
]
OPTIONS = {"max_new_tokens": 4, "do_sample": False, "use_cache": True, "pad_token_id": 0}


@cache
def small(name: str) -> Any:
    """A model that no test changes."""
    kind = getattr(transformers, name)
    return randomised(kind(kind.config_class(**CONFIGS[name])))


def loss(output: Any, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(output.logits.flatten(0, -2), target.flatten())


def list_of(model: nn.Module) -> str:
    return next(path for path, module in model.named_modules() if type(module) is nn.ModuleList)


@pytest.mark.parametrize(("name", "inputs", "target"), CASES, ids=lambda value: str(value)[:4])
def test_a_block_where_it_gains_most(
    name: str, inputs: dict[str, Tensor], target: Tensor, tmp_path: Path
) -> None:
    model, path = small(name), list_of(small(name))
    deeper = fxgrow.deepen(
        model, {path: 1}, inputs, where="gain", batches=[(inputs, target)], loss_fn=loss
    )
    best = max(deeper.gains, key=lambda block: deeper.gains[block])
    assert list(deeper.new_blocks.values()) == [best] and len(deeper.gains) == 2
    grown: Any = deeper.module
    torch.testing.assert_close(grown(**inputs).logits, model(**inputs).logits, rtol=1e-9, atol=1e-9)
    grown.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path, dtype=torch.float64).eval()
    # In float64, but for what a model computes in float32 whatever its dtype is.
    torch.testing.assert_close(
        loaded(**inputs).logits, model(**inputs).logits, rtol=1e-5, atol=1e-5
    )
    if "input_ids" in inputs:
        expected = model.generate(WORDS[:, :3], **OPTIONS)
        assert torch.equal(grown.generate(WORDS[:, :3], **OPTIONS), expected)
        assert torch.equal(loaded.generate(WORDS[:, :3], **OPTIONS), expected)
    (value,) = inputs.values()
    again = regrow(randomised(type(model)(model.config)), (value,), deeper.lineage)
    assert type(again) is type(model)
    again.load_state_dict(grown.state_dict())
    assert torch.equal(again(**inputs).logits, grown(**inputs).logits)


def test_a_vision_transformer_is_replayed_from_its_specification(tmp_path: Path) -> None:
    model = small("ViTForImageClassification")
    deeper = fxgrow.deepen(model, {list_of(model): 2}, {"pixel_values": PIXELS})
    spec = fxgrow.save(deeper, tmp_path / "deep")
    first = described_model(model, {"pixel_values": PIXELS}).spec
    assert replay(first, spec.history)[-1].fingerprint == spec.fingerprint
    loaded = fxgrow.load(tmp_path / "deep")
    torch.testing.assert_close(
        loaded(PIXELS)["logits"], deeper.module(PIXELS).logits, rtol=1e-12, atol=0
    )
