"""Language models of transformers start bigger: they save, load and generate as the small one does."""

from pathlib import Path
from typing import Any

import pytest
import torch

import fxgrow
from tests.networks import randomised

transformers = pytest.importorskip("transformers")

WORDS = torch.randint(0, 40, (2, 6), generator=torch.Generator().manual_seed(0))
SMALL = {
    "vocab_size": 40, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
}  # fmt: skip
BIG = {
    "hidden_size": 12,
    "intermediate_size": 20,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
}


@pytest.mark.parametrize(("family", "layers"), [("Llama", 3), ("Qwen3", 1)])
def test_a_bigger_language_model(family: str, layers: int, tmp_path: Path) -> None:
    kind = getattr(transformers, f"{family}ForCausalLM")
    config = getattr(transformers, f"{family}Config")
    small: Any = randomised(kind(config(**SMALL)))
    inputs = {"input_ids": WORDS}
    sizes = SMALL | BIG | {"num_hidden_layers": layers}
    bigger: Any = fxgrow.grow_to(small, kind(config(**sizes)), inputs).module.eval()
    bigger.save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path, dtype=torch.float64).eval()
    with torch.no_grad():
        expected, found = small(**inputs).logits, loaded(**inputs).logits
    # Their norms compute in float32, whatever the model's dtype is.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    options = {"max_new_tokens": 5, "do_sample": False, "use_cache": True, "pad_token_id": 0}
    start = WORDS[:, :3]
    assert torch.equal(loaded.generate(start, **options), small.generate(start, **options))
