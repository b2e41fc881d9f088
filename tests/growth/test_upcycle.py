"""Dense layers become mixtures of copies: any router keeps the function, and the experts learn apart."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow.errors import FxgrowError
from fxgrow.growth import MixtureOfExperts
from tests.networks import randomised

SIZE = 4


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(SIZE, 6), nn.Linear(6, SIZE)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(SIZE), Mlp()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, SIZE)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.mix = nn.Conv1d(SIZE, SIZE, 3, padding=1)
        self.head = nn.Linear(SIZE, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.mix(x.mT).mT.mean(1))


LAYERS = {"blocks.*.mlp": 4}


def points() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 5, 3, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_any_router_keeps_the_function(top_k: int) -> None:
    model = randomised(Net())
    sparse = fxgrow.upcycle(model, LAYERS, points(), top_k=top_k)
    grown: Any = sparse.module
    assert type(grown) is Net and sparse.preservation_error <= 1e-12
    torch.testing.assert_close(grown(points()), model(points()), rtol=1e-12, atol=1e-12)
    assert sparse.rows == {f"blocks.{number}.mlp.router.weight": 4 for number in (0, 1)}
    mixture = grown.blocks[0].mlp
    assert isinstance(mixture, MixtureOfExperts) and mixture.top_k == top_k
    with torch.no_grad():
        mixture.router.weight.mul_(-7)
    torch.testing.assert_close(grown(points()), model(points()), rtol=1e-12, atol=1e-12)
    assert isinstance(model.blocks[0].mlp, Mlp)
    copied = pickle.loads(pickle.dumps(copy.deepcopy(grown)))
    assert torch.equal(copied(points()), grown(points()))


def test_experts_learn_apart_in_the_groups_of_their_layer() -> None:
    model = randomised(Net())
    layers = list(model.blocks.parameters())
    others = [*model.stem.parameters(), *model.mix.parameters(), *model.head.parameters()]
    optimizer = torch.optim.Adam([{"params": layers, "lr": 0.1}, {"params": others}], lr=0.01)
    model(points()).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    kept = optimizer.state[model.blocks[0].mlp.up.weight]["exp_avg"].clone()
    sparse = fxgrow.upcycle(model, LAYERS, points(), inplace=True, optimizer=optimizer)
    assert sparse.module is model
    experts = model.blocks[0].mlp.experts
    # The first expert is the layer itself, with its state.
    assert torch.equal(optimizer.state[experts[0].up.weight]["exp_avg"], kept)
    group, rest = optimizer.param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in model.blocks.parameters()}
    assert len(rest["params"]) == len(others)
    for _ in range(2):
        optimizer.zero_grad()
        model(points()).square().sum().backward()
        optimizer.step()
    assert not torch.equal(experts[0].up.weight, experts[1].up.weight)
    assert model.blocks[0].mlp.router.weight.grad.abs().max() > 0


def test_it_is_saved_and_grows_further(tmp_path: Path) -> None:
    sparse = fxgrow.upcycle(randomised(Net()), {"blocks.0.mlp": 3}, points())
    before = sparse.module(points())
    fxgrow.save(sparse, tmp_path / "sparse")
    assert torch.equal(fxgrow.load(tmp_path / "sparse")(points()), before)
    wider = fxgrow.widen(sparse.module, {"blocks.0.mlp.experts.*": 2}, points(), how="new")
    assert [e.up.out_features for e in wider.module.blocks[0].mlp.experts] == [8, 8, 8]
    torch.testing.assert_close(wider.module(points()), before, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("default")
def test_a_llama() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=40, hidden_size=8, intermediate_size=12, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    model: Any = randomised(transformers.LlamaForCausalLM(config))
    words = torch.randint(0, 40, (2, 5))
    sparse = fxgrow.upcycle(model, {"model.layers.*.mlp": 4}, {"input_ids": words})
    torch.testing.assert_close(
        sparse.module(words).logits, model(words).logits, rtol=1e-6, atol=1e-6
    )
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(sparse.module.generate(words, **options), model.generate(words, **options))


@pytest.mark.parametrize(
    ("others", "sentence", "code"),
    [
        ({"layers": {"missing.*": 2}}, "no layer 'missing", "bad-experts"),
        ({"layers": {"mix": 2}}, "no function of each token", "bad-experts"),
        ({"layers": {"blocks.*.mlp": 2}, "top_k": 3}, "less than top_k=3", "bad-experts"),
        ({"layers": {}}, "name at least one", "empty-budget"),
        ({"layers": {"head": 1}}, "layers", "bad-argument"),
        ({"example_inputs": torch.zeros(2)}, "does not run", "does-not-run"),
    ],
    ids=str,
)
def test_refusals(others: dict[str, Any], sentence: str, code: str) -> None:
    model = randomised(Net())
    with pytest.raises(FxgrowError, match=sentence) as refusal:
        fxgrow.upcycle(model, **{"layers": LAYERS, "example_inputs": points(), **others})
    assert refusal.value.code == code and isinstance(model.blocks[0].mlp, Mlp)


def test_a_mixture_of_other_numbers_is_refused() -> None:
    for top_k, code in ((0, "bad-argument"), (2, "bad-experts")):
        with pytest.raises(FxgrowError) as refusal:
            MixtureOfExperts([nn.Linear(2, 2)], nn.Linear(2, 1), top_k)
        assert refusal.value.code == code
