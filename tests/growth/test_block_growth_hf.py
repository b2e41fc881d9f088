"""A transformer grows in blocks and neurons at once; its config follows, and it generates."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import fxgrow
from tests.growth.test_deepen_hf import LLAMA, OPTIONS, WORDS, generated, made

pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("default")


def loss(output: Any, words: Tensor) -> Tensor:
    return F.cross_entropy(output.logits[:, :-1].flatten(0, 1), words[:, 1:].flatten())


def grown(model: Any, **others: Any) -> fxgrow.Growth:
    settings = {
        "layers": "block:model.lay*",
        "method": fxgrow.Firefly(new=4, steps=2, refine_steps=1, points=1),
        "budget": fxgrow.Budget(parameters=0.7, layers=1),
        **others,
    }
    batches = [({"input_ids": words}, words) for words in (WORDS, WORDS.flip(0), WORDS.flip(1))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the candidates run out
        return fxgrow.grow(model, batches, loss, **settings)


@pytest.mark.parametrize("expressible", [False, True])
def test_a_llama_gets_blocks_and_neurons(expressible: bool, tmp_path: Path) -> None:
    small = made("LlamaForCausalLM", LLAMA)
    growth = grown(small, expressible=expressible)
    model: Any = growth.module
    assert type(model) is type(small) and growth.report.num_blocks == 1 and growth.report.widths
    assert growth.report.preservation_error <= 1e-9
    layers = model.model.layers
    assert len(layers) == model.config.num_hidden_layers == 4
    assert [layer.self_attn.layer_idx for layer in layers] == [0, 1, 2, 3]
    assert growth.report.config is not None
    assert growth.report.config.fields["config.num_hidden_layers"] == 4
    # Each block has a place of its own in the key-value cache.
    without_cache = model.generate(WORDS[:, :3], **{**OPTIONS, "use_cache": False})
    assert torch.equal(generated(model), without_cache)
    assert len(small.model.layers) == small.config.num_hidden_layers == 3
    if expressible:
        assert growth.report.config.note == ""
        model.save_pretrained(tmp_path)
        loaded = type(small).from_pretrained(tmp_path, dtype=torch.float64).eval()
        torch.testing.assert_close(loaded(WORDS).logits, model(WORDS).logits, rtol=1e-5, atol=1e-5)
