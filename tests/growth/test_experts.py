"""More experts: copies that are chosen together compute the same, and learn apart."""

from pathlib import Path
from typing import Any

import pytest
import torch

import fxgrow
from fxgrow.errors import FxgrowError
from tests.networks import images, network, randomised

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("default")

IDS = torch.randint(0, 40, (2, 6), generator=torch.Generator().manual_seed(0))
WORDS = {"input_ids": IDS}
SMALL = {
    "vocab_size": 40, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": 1,
    "num_experts_per_tok": 2,
}  # fmt: skip
MIXTRAL = ("MixtralForCausalLM", {"num_local_experts": 3})
"""Weights of the chosen experts are divided by their sum."""
OLMOE = ("OlmoeForCausalLM", {"num_experts": 3, "norm_topk_prob": False})
"""Weights of the chosen experts are not."""


def made(name: str, experts: dict[str, Any]) -> Any:
    kind = getattr(transformers, name)
    model = randomised(kind(kind.config_class(**SMALL, **experts)))
    # The kernel of grouped products knows no float64.
    model.config._experts_implementation = "eager"
    return model


@pytest.mark.parametrize(
    ("kind", "times", "fields"),
    [
        (MIXTRAL, 2, {"config.num_local_experts": 6, "config.num_experts_per_tok": 4}),
        (MIXTRAL, 3, {"config.num_local_experts": 9, "config.num_experts_per_tok": 6}),
        (OLMOE, 2, {"config.num_experts": 6, "config.num_experts_per_tok": 4}),
    ],
    ids=str,
)
def test_copies_compute_the_same(kind: Any, times: int, fields: Any, tmp_path: Path) -> None:
    small = made(*kind)
    more = fxgrow.grow_experts(small, times, WORDS)
    model: Any = more.module
    assert type(model) is type(small)
    assert more.config is not None and more.config.fields == fields and more.config.note == ""
    # Routers compute in float32, whatever the type of the model.
    assert more.preservation_error <= 1e-6
    assert more.preservation_error <= 1e-9 or "amplifies rounding" in more.unchecked
    torch.testing.assert_close(model(IDS).logits, small(IDS).logits, rtol=1e-5, atol=1e-5)
    assert set(more.rows.values()) == {3 * times} and len(more.rows) == 6
    mixture = model.model.layers[0].mlp
    assert mixture.experts.num_experts == 3 * times and mixture.gate.top_k == 2 * times
    assert small.model.layers[0].mlp.experts.num_experts == 3
    model.save_pretrained(tmp_path)
    loaded = type(small).from_pretrained(tmp_path, dtype=torch.float64).eval()
    loaded.config._experts_implementation = "eager"
    torch.testing.assert_close(loaded(IDS).logits, model(IDS).logits, rtol=1e-6, atol=1e-6)


def test_copies_learn_apart_in_the_same_optimizer() -> None:
    model = made(*MIXTRAL)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model(IDS, labels=IDS).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    fxgrow.grow_experts(model, 2, WORDS, inplace=True, optimizer=optimizer)
    experts, gate = model.model.layers[0].mlp.experts, model.model.layers[0].mlp.gate
    # What the model is linear in is moved apart, so that the rest sees other gradients.
    assert torch.equal(experts.gate_up_proj[:3], experts.gate_up_proj[3:])
    apart = experts.down_proj[:3] - experts.down_proj[3:]
    assert 0 < apart.abs().max() < 0.2 * experts.down_proj.std()
    model(IDS, labels=IDS).loss.backward()
    assert not torch.allclose(gate.weight.grad[:3], gate.weight.grad[3:], rtol=1e-9, atol=0)
    optimizer.step()
    assert not torch.equal(experts.gate_up_proj[:3], experts.gate_up_proj[3:])
    one, other = (
        fxgrow.grow_experts(made(*MIXTRAL), 2, WORDS, seed=seed).module for seed in (0, 1)
    )
    assert not torch.equal(
        one.model.layers[0].mlp.experts.down_proj, other.model.layers[0].mlp.experts.down_proj
    )


def test_what_has_no_experts_is_refused() -> None:
    dense = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**{**SMALL, "num_experts_per_tok": None})
    )
    for model, inputs in ((network("chain"), images()), (randomised(dense), WORDS)):
        with pytest.raises(FxgrowError) as refusal:
            fxgrow.grow_experts(model, 2, inputs)
        assert refusal.value.code == "no-experts"


@pytest.mark.parametrize(
    ("others", "sentence", "code"),
    [
        ({"times": 1}, "times", "bad-argument"),
        ({"example_inputs": {"input_ids": IDS.double()}}, "does not run", "does-not-run"),
    ],
    ids=str,
)
def test_refusals(others: dict[str, Any], sentence: str, code: str) -> None:
    model = made(*MIXTRAL)
    with pytest.raises(FxgrowError, match=sentence) as refusal:
        fxgrow.grow_experts(model, **{"times": 2, "example_inputs": WORDS, **others})
    assert refusal.value.code == code and model.config.num_local_experts == 3
