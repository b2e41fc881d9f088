from typing import Any

import pytest
from torch import nn

from fxgrow import capture, lower
from fxgrow.lowering.timm_vit import SelfAttention
from tests.lowering.models import (
    DIM,
    HEADS,
    Picture,
    difference,
    drift,
    heads_of,
    in_train_mode,
    noise,
    randomised,
)

timm = pytest.importorskip("timm.layers")
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "biases": {"qkv_bias": True},
    "dropout": {"attn_drop": 0.5, "proj_drop": 0.5},
    "norms": {"qk_norm": True, "norm_layer": nn.LayerNorm},
    "gate": {"gated": True},
}


def attention(form: str) -> nn.Module:
    return timm.Attention(DIM, HEADS, **FORMS[form])


@pytest.mark.parametrize("fused_kernel", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_the_same_function(form: str, fused_kernel: bool) -> None:
    fused: Any = randomised(attention(form))
    fused.fused_attn = fused_kernel
    mine, x = lower(fused), noise(2, 4, DIM)
    assert type(mine) is SelfAttention
    for words in (
        {},
        {"attn_mask": noise(4, 4)},
        {"attn_mask": noise(4, 4) > -9},
        {"is_causal": True},
    ):
        assert difference(fused, mine, x, **words) < 1e-12
    assert difference(in_train_mode(fused), in_train_mode(mine), x) < 1e-12


@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.parametrize("form", FORMS)
def test_heads_grow(form: str, how: str) -> None:
    mine, x = lower(randomised(Picture(attention(form)))), (noise(2, 4, 5),)
    [heads] = heads_of(mine, x)
    assert heads.size == HEADS
    assert ("attention.gate.weight" in {site.parameter for site in heads.sites}) == (form == "gate")
    assert drift(mine, x, how) < 1e-9
    assert capture(mine, x).traced_share == 1
