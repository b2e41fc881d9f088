import importlib
import sys
from typing import Any

import pytest
import torch
from torch import nn

from fxgrow import Budget, Firefly, grow, load, lower, save
from fxgrow.lowering import LOWERINGS
from fxgrow.lowering.multihead import Attention
from tests.lowering.models import DIM, HEADS, Tokens, difference, noise, randomised


def attention(**form: bool) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(DIM, HEADS, **form)


def parts(*modules: nn.Module) -> list[Any]:
    """The lowered modules of a list."""
    return list(lower(nn.ModuleList(modules)).children())


def test_the_model_is_left_alone() -> None:
    model = randomised(Tokens(attention()))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    mine = lower(model)
    assert type(mine) is Tokens
    assert type(mine.attention) is Attention
    assert type(model.attention) is nn.MultiheadAttention
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    with torch.no_grad():
        mine.attention.q.weight.zero_()
        mine.embed.weight.zero_()
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in before.items())


def test_what_a_parameter_is_stays() -> None:
    fused = attention().to(torch.bfloat16).eval()
    fused.in_proj_weight.requires_grad_(False)
    mine = lower(fused)
    assert {p.dtype for p in mine.parameters()} == {torch.bfloat16}
    frozen = {name for name, p in mine.named_parameters() if not p.requires_grad}
    assert frozen == {"q.weight", "k.weight", "v.weight"}
    assert not any(module.training for module in mine.modules())
    assert all(
        p.is_meta for p in lower(nn.MultiheadAttention(DIM, HEADS, device="meta")).parameters()
    )


def test_one_module_in_two_places_stays_one() -> None:
    shared = attention()
    mine = lower(nn.ModuleList([shared, shared]))
    assert mine[0] is mine[1]


def test_tied_parameters_stay_tied() -> None:
    a, b = attention(), attention()
    b.in_proj_weight, b.out_proj.weight = a.in_proj_weight, a.out_proj.weight
    one, other = parts(a, b)
    assert all(
        getattr(one, name).weight is getattr(other, name).weight for name in ("q", "k", "v", "out")
    )
    assert one.q.bias is not other.q.bias


def test_what_shares_with_a_module_that_stays_stays_too() -> None:
    a, b, c = attention(), attention(), nn.Linear(DIM, 3 * DIM)
    c.weight = b.in_proj_weight
    b.out_proj.weight = a.out_proj.weight
    assert [type(m) for m in parts(a, b, c)] == [type(a), type(b), type(c)]
    assert [type(m) for m in parts(a, b)] == [Attention, Attention]


class OwnAttention(nn.MultiheadAttention):
    """Somebody's own kind of attention."""


def adapted() -> nn.Module:
    fused = attention()
    fused.add_module("out_proj", nn.Bilinear(1, 1, 1))
    return fused


def hooked() -> nn.Module:
    fused = attention()
    fused.out_proj.register_forward_hook(lambda *_: None)
    return fused


@pytest.mark.parametrize(
    "build", [lambda: OwnAttention(DIM, HEADS), adapted, hooked], ids=["subclass", "part", "hook"]
)
def test_what_is_not_known_stays_as_it_is(build: object) -> None:
    module = build()
    assert type(lower(nn.Sequential(module))[0]) is type(module)


def test_lowered_twice_is_lowered() -> None:
    mine = lower(randomised(Tokens(attention())))
    assert difference(mine, lower(mine), noise(2, 4, 5)) == 0


def test_heads_are_grown_scored_and_saved(tmp_path: object) -> None:
    torch.manual_seed(0)
    model = lower(Tokens(attention(batch_first=True)))
    x, y = torch.randn(8, 4, 5), torch.randn(8, 4, 2)
    growth = grow(
        model,
        [(x, y)],
        nn.functional.mse_loss,
        example_inputs=(x[:1],),
        method=Firefly(new=2, steps=2),
        budget=Budget(neurons=2),
    )
    [change] = growth.report.widths
    assert change.width == "attention.q"
    assert (change.before, change.after) == (HEADS, HEADS + 2)
    assert growth.module.attention.num_heads == HEADS + 2
    assert growth.report.faithful_error < 1e-5
    save(growth, tmp_path / "grown")
    assert difference(growth.module, load(tmp_path / "grown"), x) < 1e-6


def test_torchvision_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert type(lower(attention())) is Attention


@pytest.mark.parametrize("name", LOWERINGS)
def test_every_row_is_a_class(name: str) -> None:
    module, _, kind = name.rpartition(".")
    if not module.startswith("torch."):
        pytest.importorskip(module.partition(".")[0])
    assert issubclass(getattr(importlib.import_module(module), kind), nn.Module)
