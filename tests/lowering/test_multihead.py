from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxgrow import ModelError, capture, couple, lower, widen
from fxgrow.lowering.multihead import Attention, additive
from tests.lowering.models import (
    DIM,
    HEADS,
    Tokens,
    difference,
    drift,
    heads_of,
    in_train_mode,
    noise,
    randomised,
)

BATCH, QUERIES, KEYS = 2, 4, 5
FORMS = {
    "plain": {},
    "no bias": {"bias": False},
    "batch first": {"batch_first": True},
    "other sizes": {"kdim": 7, "vdim": 6},
    "learnt token": {"add_bias_kv": True},
    "zero token": {"add_zero_attn": True},
    "all": {"batch_first": True, "kdim": 7, "vdim": 6, "add_bias_kv": True, "add_zero_attn": True},
}


def attention(**form: Any) -> nn.Module:
    return randomised(nn.MultiheadAttention(DIM, HEADS, **form))


def inputs(module: Any, batched: bool) -> tuple[Tensor, ...]:
    sizes = ((QUERIES, DIM), (KEYS, module.kdim), (KEYS, module.vdim))
    whole = [noise(BATCH, *size, seed=i) for i, size in enumerate(sizes)]
    if not batched:
        return tuple(x[0] for x in whole)
    return tuple(x if module.batch_first else x.transpose(0, 1) for x in whole)


def masks(batched: bool) -> dict[str, dict[str, Tensor]]:
    hidden = noise(QUERIES, KEYS) > 0.5
    hidden[:, 0] = False
    padding = (torch.arange(KEYS) >= 3).expand(BATCH, KEYS)
    return {
        "none": {},
        "truth": {"attn_mask": hidden},
        "added": {"attn_mask": noise(QUERIES, KEYS)},
        "per head": {"attn_mask": noise((BATCH if batched else 1) * HEADS, QUERIES, KEYS)},
        "padding": {"key_padding_mask": padding if batched else padding[0]},
        "both": {"attn_mask": hidden, "key_padding_mask": padding if batched else padding[0]},
    }


@pytest.mark.parametrize("batched", [True, False], ids=["batched", "unbatched"])
@pytest.mark.parametrize("form", FORMS)
def test_the_same_function_of_all_arguments(form: str, batched: bool) -> None:
    fused = attention(**FORMS[form])
    mine = lower(fused)
    assert type(mine) is Attention
    arguments = inputs(fused, batched)
    for mask, weights, average in product(masks(batched).values(), (True, False), (True, False)):
        words = {"need_weights": weights, "average_attn_weights": average, **mask}
        assert difference(fused, mine, *arguments, **words) < 1e-12


@pytest.mark.parametrize("weights", [True, False])
def test_a_causal_mask(weights: bool) -> None:
    fused = attention()
    x = noise(QUERIES, BATCH, DIM)
    mask = nn.Transformer.generate_square_subsequent_mask(QUERIES, dtype=torch.float64)
    mine = lower(fused)
    assert (
        difference(fused, mine, x, x, x, attn_mask=mask, is_causal=True, need_weights=weights)
        < 1e-12
    )
    assert difference(mine, mine, x, x, x, attn_mask=mask, need_weights=weights) == 0
    with pytest.raises(
        ModelError, match="is_causal says that attn_mask is causal, but there is none"
    ) as caught:
        mine(x, x, x, is_causal=True)
    assert caught.value.code == "no-mask"


@pytest.mark.parametrize("weights", [True, False])
def test_dropout_in_train_mode(weights: bool) -> None:
    fused = in_train_mode(attention(dropout=0.5))
    x = noise(QUERIES, BATCH, DIM)
    mine = lower(fused)
    assert difference(fused, mine, x, x, x, need_weights=weights) < 1e-12
    assert difference(fused, mine.eval(), x, x, x, need_weights=weights) > 1e-3


@pytest.mark.parametrize(
    "form",
    [{}, {"bias": False}, {"batch_first": True}, {"add_bias_kv": True, "add_zero_attn": True}],
)
@pytest.mark.parametrize("how", ["split", "new"])
def test_heads_grow(form: dict[str, Any], how: str) -> None:
    mine = lower(randomised(Tokens(nn.MultiheadAttention(DIM, HEADS, **form))))
    x = (noise(2, 4, 5),)
    [heads] = heads_of(mine, x)
    assert heads.size == HEADS
    assert heads.granule == DIM // HEADS
    reads = {(site.parameter, site.axis) for site in heads.sites if site.role.value == "reads"}
    assert reads == {("attention.out.weight", 1)}
    assert drift(mine, x, how) < 1e-9


def test_the_number_of_heads_follows() -> None:
    mine = lower(randomised(Tokens(nn.MultiheadAttention(DIM, HEADS))))
    wider = widen(mine, {"attention.q": 2}, (noise(2, 4, 5),)).module
    assert (wider.attention.num_heads, wider.attention.head_dim, wider.attention.embed_dim) == (
        5,
        4,
        DIM,
    )


def test_the_weights_of_all_heads_are_part_of_the_function() -> None:
    mine = lower(attention())
    x = noise(QUERIES, BATCH, DIM)
    width = couple(mine, (x, x, x)).by_name["q"]
    assert width.refusal is not None  # the mean over heads is an output


class Unread(Tokens):
    """Asks for the weights, as is the default, and does not look at them."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.embed(x))
        return self.head(x + self.attention(x, x, x)[0])


def test_weights_that_nobody_reads_are_no_part_of_the_graph() -> None:
    x = (noise(2, 4, 5),)
    captured = capture(lower(randomised(Unread(nn.MultiheadAttention(DIM, HEADS)))), x)
    assert couple(captured, x).by_name["attention.q"].growable


def test_torch_fx_goes_through() -> None:
    mine = lower(randomised(Tokens(nn.MultiheadAttention(DIM, HEADS, add_bias_kv=True))))
    captured = capture(mine, (noise(2, 4, 5),))
    assert captured.traced_share == 1
    assert not [node for node in captured.graph_module.graph.nodes if node.target == "attention"]


def test_a_mask_is_added() -> None:
    shut = additive(torch.tensor([True, False]), torch.float64)
    assert shut is not None
    assert shut.tolist() == [-torch.inf, 0]
    given = noise(2)
    assert additive(given, torch.float64) is given
    assert additive(None, torch.float64) is None
