from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxgrow import capture, lower
from fxgrow.lowering.windows import ELSEWHERE, WindowAttention, departition, partition, shift_mask
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

swin = pytest.importorskip("torchvision.models.swin_transformer")
video = pytest.importorskip("torchvision.models.video.swin_transformer")

KINDS = {
    "v1": (swin.ShiftedWindowAttention, [3, 2], [1, 1]),
    "v1 unshifted": (swin.ShiftedWindowAttention, [3, 2], [0, 0]),
    "v2": (swin.ShiftedWindowAttentionV2, [3, 2], [1, 1]),
    "video": (video.ShiftedWindowAttention3d, [2, 3, 2], [1, 1, 1]),
}


def attention(kind: str, **form: Any) -> nn.Module:
    make, window, shift = KINDS[kind]
    return randomised(make(DIM, window, shift, HEADS, **form))


def image(kind: str, *sizes: int) -> Tensor:
    lead = (3,) if kind == "video" else ()
    return noise(2, *lead, *sizes, DIM)


@pytest.mark.parametrize("sizes", [(6, 4), (7, 5), (2, 5), (3, 2), (2, 1)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_function_of_images_of_all_sizes(kind: str, sizes: tuple[int, int]) -> None:
    fused = attention(kind)
    mine = lower(fused)
    assert type(mine) is WindowAttention
    assert difference(fused, mine, image(kind, *sizes)) < 1e-12


def test_a_video_shorter_than_its_window() -> None:
    fused = attention("video")
    assert difference(fused, lower(fused), noise(1, 1, 7, 5, DIM)) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_and_no_biases(kind: str) -> None:
    x = image(kind, 6, 4)
    fused = in_train_mode(attention(kind, qkv_bias=False, proj_bias=False, dropout=0.5))
    assert difference(fused, lower(fused), x) < 1e-12
    dropped = lower(in_train_mode(attention(kind, attention_dropout=0.5)))
    assert difference(dropped, lower(attention(kind, attention_dropout=0.5)), x) > 1e-3


def test_the_bias_that_the_original_sets_to_zero_is_gone() -> None:
    fused = attention("v2")
    assert float(fused.qkv.bias[DIM : 2 * DIM].detach().abs().min()) > 0
    assert lower(fused).k.bias is None


@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.parametrize("kind", KINDS)
def test_heads_grow(kind: str, how: str) -> None:
    model = randomised(Picture(KINDS[kind][0](DIM, *KINDS[kind][1:], HEADS)))
    mine, x = lower(model), (image(kind, 6, 4)[..., :5],)
    [heads] = heads_of(mine, x)
    assert heads.size == HEADS
    names = {site.parameter.removeprefix("attention.") for site in heads.sites}
    own = {"logit_scale", "position.mlp.2.weight"} if kind == "v2" else {"position.table"}
    assert own < names
    assert drift(mine, x, how) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_a_captured_graph_is_good_for_other_sizes(kind: str) -> None:
    model = randomised(Picture(KINDS[kind][0](DIM, *KINDS[kind][1:], HEADS)))
    captured = capture(lower(model), (image(kind, 6, 4)[..., :5],))
    assert captured.traced_share == 1
    assert difference(model, captured.graph_module, image(kind, 2, 9)[..., :5]) < 1e-12


@pytest.mark.parametrize("window", [(3,), (3, 2), (2, 3, 2)], ids=str)
def test_windows_are_taken_apart_and_put_together(window: tuple[int, ...]) -> None:
    sizes = tuple(2 * w for w in window)
    x = noise(2, *sizes, 3)
    parts = partition(x, window)
    assert parts.shape == (2, 2 ** len(window), torch.Size(window).numel(), 3)
    corner = x[(slice(None), *(slice(0, w) for w in window))]
    assert torch.equal(parts[:, 0], corner.reshape(2, -1, 3))
    assert torch.equal(departition(parts, sizes, window), x)


def test_who_is_elsewhere() -> None:
    mask = shift_mask(noise(1, 6, 1), [6], [3], [1])
    away = [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
    assert mask.tolist() == [[[0.0] * 3] * 3, (ELSEWHERE * torch.tensor(away)).tolist()]
