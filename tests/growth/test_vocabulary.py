"""More words: what was computed for the old ones stays, tied or not; configs follow."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.errors import FxgrowError
from tests.networks import randomised

IDS = torch.randint(0, 11, (2, 5), generator=torch.Generator().manual_seed(0))
WORDS = 11


class Language(nn.Module):
    """A language model with positions, so that it has two embeddings."""

    def __init__(self, tied: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, 4), nn.Embedding(6, 4)
        self.mix = nn.Linear(4, 4)
        self.head = nn.Linear(4, WORDS, bias=bias)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        return self.head(self.mix(x).relu())


@pytest.mark.parametrize(("tied", "bias"), [(False, True), (True, True), (True, False)])
def test_old_logits_stay_and_new_rows_are_the_mean(tied: bool, bias: bool) -> None:
    model = randomised(Language(tied, bias))
    longer = fxgrow.grow_vocabulary(model, 3, IDS, embedding="words")
    grown: Any = longer.module
    assert type(grown) is Language and longer.preservation_error <= 1e-12
    logits = grown(IDS)
    assert logits.shape[-1] == WORDS + 3
    torch.testing.assert_close(logits[..., :WORDS], model(IDS), rtol=1e-12, atol=1e-12)
    # A new word has the mean of all logits.
    mean = model(IDS).mean(-1, keepdim=True).expand_as(logits[..., WORDS:])
    torch.testing.assert_close(logits[..., WORDS:], mean, rtol=1e-9, atol=1e-9)
    assert (grown.head.weight is grown.words.weight) == tied
    assert (grown.words.num_embeddings, grown.head.out_features) == (WORDS + 3, WORDS + 3)
    assert longer.rows["words.weight"] == WORDS + 3 and len(longer.rows) == 3 - tied - (not bias)
    assert grown.places.weight.shape == model.places.weight.shape
    assert grown(torch.full((1, 2), WORDS + 2)).isfinite().all()
    assert model.words.num_embeddings == WORDS


def test_drawn_rows_and_the_optimizer_in_place() -> None:
    model = randomised(Language(tied=True))
    before = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters())
    model(IDS).square().sum().backward()
    optimizer.step()
    kept = copy.deepcopy(model.state_dict())
    longer = fxgrow.grow_vocabulary(
        model, 2, IDS, embedding="words", how="new", inplace=True, optimizer=optimizer
    )
    assert longer.module is model and longer.optimizer is optimizer
    rows = model.words.weight[WORDS:]
    assert not torch.equal(rows[0], rows[1])
    torch.testing.assert_close(model.head.bias[WORDS:], kept["head.bias"].mean().expand(2))
    assert optimizer.state[model.words.weight]["exp_avg"].shape == model.words.weight.shape
    optimizer.zero_grad()
    model(torch.full((1, 2), WORDS)).sum().backward()
    optimizer.step()
    again = fxgrow.grow_vocabulary(before, 2, IDS, embedding="words", how="new", seed=0).module
    other = fxgrow.grow_vocabulary(before, 2, IDS, embedding="words", how="new", seed=1).module
    assert not torch.equal(again.words.weight, other.words.weight)


def test_an_encoder_has_rows_of_words_alone() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.out = nn.Embedding(WORDS, 4), nn.Linear(4, 3)

        def forward(self, ids: Tensor) -> Tensor:
            return self.out(self.words(ids).mean(1))

    model = randomised(Encoder())
    longer = fxgrow.grow_vocabulary(model, 5, IDS)
    assert longer.rows == {"words.weight": WORDS + 5}
    assert torch.equal(longer.module(IDS), model(IDS))


def test_a_tied_layer_is_found_wherever_it_stands() -> None:
    class Bent(Language):
        def __init__(self) -> None:
            super().__init__(tied=True)
            self.last = nn.PReLU()  # so that the last layer with parameters is another one

        def forward(self, ids: Tensor) -> Tensor:
            return self.last(super().forward(ids))

    model = randomised(Bent())
    longer = fxgrow.grow_vocabulary(model, 2, IDS, embedding="words")
    assert set(longer.rows) == {"words.weight", "head.bias"}
    torch.testing.assert_close(longer.module(IDS)[..., :WORDS], model(IDS), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("others", "sentence", "code"),
    [
        ({}, "'words', 'places'", "no-embedding"),
        ({"embedding": "missing"}, "no embedding with a weight", "no-embedding"),
        ({"embedding": "words", "output": "missing"}, "no module 'missing'", "no-embedding"),
        ({"embedding": "words", "output": "mix"}, "no row for each of 11 words", "no-embedding"),
        ({"embedding": "words", "words": 0}, "words", "bad-argument"),
        ({"embedding": "words", "words": 10**9}, "words", "bad-argument"),
    ],
    ids=str,
)
def test_refusals(others: dict[str, Any], sentence: str, code: str) -> None:
    model = randomised(Language())
    with pytest.raises(FxgrowError, match=sentence) as refusal:
        fxgrow.grow_vocabulary(model, **{"words": 2, "example_inputs": IDS, **others})
    assert refusal.value.code == code and model.words.num_embeddings == WORDS


def test_a_model_that_computes_another_thing_is_put_back() -> None:
    class Counting(Language):
        def forward(self, ids: Tensor) -> Tensor:
            return super().forward(ids) * self.words.num_embeddings

    model = randomised(Counting())
    with pytest.raises(fxgrow.GrowthError) as refusal:
        fxgrow.grow_vocabulary(model, 2, IDS, embedding="words", inplace=True)
    assert refusal.value.code == "broken-promise"
    assert model.words.weight.shape == (WORDS, 4) and model.words.num_embeddings == WORDS


CONFIGS: dict[str, dict[str, Any]] = {
    "LlamaForCausalLM": {
        "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0,
    },
    "GPT2LMHeadModel": {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16},
    "BertForMaskedLM": {
        "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12,
    },
    "BartForConditionalGeneration": {
        "d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 12, "decoder_ffn_dim": 12,
        "max_position_embeddings": 16, "pad_token_id": 1, "eos_token_id": 2, "bos_token_id": 0,
        "decoder_start_token_id": 2,
    },
}  # fmt: skip


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", CONFIGS)
def test_transformers(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    kind = getattr(transformers, name)
    small: Any = randomised(kind(kind.config_class(vocab_size=40, **CONFIGS[name])))
    words = {"input_ids": IDS + 3}
    longer = fxgrow.grow_vocabulary(small, 5, words)
    model: Any = longer.module
    assert longer.config is not None and longer.config.note == ""
    assert longer.config.fields == {"config.vocab_size": 45}
    assert model.config.vocab_size == 45 and small.config.vocab_size == 40
    logits, before = model(**words).logits, small(**words).logits
    assert logits.shape[-1] == 45
    torch.testing.assert_close(logits[..., :40], before, rtol=1e-9, atol=1e-9)
    model.save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path, dtype=torch.float64).eval()
    torch.testing.assert_close(loaded(**words).logits, logits, rtol=1e-6, atol=1e-6)
    assert model.get_input_embeddings().num_embeddings == 45


def test_too_many_words_are_refused_before_any_memory_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fxgrow.memory.available_memory", lambda *_: 10_000)
    model = randomised(Language())
    with pytest.raises(FxgrowError, match="ask for fewer") as refusal:
        fxgrow.grow_vocabulary(model, 100, IDS, embedding="words")
    assert refusal.value.code == "too-large" and model.words.num_embeddings == WORDS
