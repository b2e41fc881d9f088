"""Cases of ``test_rules`` for operators that choose elements, cut patches, or leave ATen: model, input, widths."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d, roi_align

from tests.coupling.models import IMAGE, SEQUENCE, VECTOR, Net, convolutions, linears

FREE = (4, 1, "")
OUT = (2, 1, "output")


def _set(h: Tensor, where: Any, value: Any) -> Tensor:
    out = h.clone()
    out[where] = value
    return out


def _boxes(h: Tensor) -> Tensor:
    return roi_align(h, [h.new_tensor([[0, 0, 4, 4]])] * 2, 3)


def _standardised(weight: Tensor) -> Tensor:
    """Every row with mean 0 and variance 1, as timm's standardised convolutions do it."""
    return F.batch_norm(weight[None], None, None, training=True)[0]


def refused(code: str) -> dict[str, tuple[int, int, str]]:
    return {"a": (4, 1, code), "b": OUT}


GROWS = {"a": FREE, "b": OUT}


def _tied_words() -> nn.Module:
    """A model of 7 words whose last layer shares the weight of the first."""
    model = Net(
        lambda n, x: n.last(n.b(n.a(n.words(x)).relu())),
        words=nn.Embedding(7, 5),
        a=nn.Linear(5, 4),
        b=nn.Linear(4, 5),
        last=nn.Linear(5, 7),
    )
    model.last.weight = model.words.weight
    return model


MORE: dict[str, tuple[Callable[[], nn.Module], Tensor, dict[str, tuple[int, int, str]]]] = {
    "tied words": (
        _tied_words,
        torch.tensor([[1, 2, 0]]),
        {"words": (5, 1, "tied-role"), "words#2": (7, 1, "vocabulary"), "a": FREE},
    ),
    "log sigmoid": (lambda: linears(F.logsigmoid), VECTOR, GROWS),
    "standardised kernels": (
        lambda: Net(
            lambda n, x: F.linear(n.a(x), _standardised(n.b.weight)),
            a=nn.Linear(6, 4),
            b=nn.Linear(4, 2),
        ),
        VECTOR,
        refused("normalised"),
    ),
    "adaptive pooling in three dimensions": (
        lambda: nn.Sequential(nn.Conv3d(3, 4, 1), nn.AdaptiveMaxPool3d(2), nn.Conv3d(4, 2, 1)),
        torch.randn(2, 3, 4, 4, 4),
        {"0": FREE, "2": OUT},
    ),
    "antialiased resampling": (
        lambda: convolutions(
            lambda h: F.interpolate(h, scale_factor=0.5, mode="bilinear", antialias=True)
        ),
        IMAGE,
        GROWS,
    ),
    "unpooling": (
        lambda: convolutions(lambda h: F.max_unpool2d(*F.max_pool2d(h, 2, return_indices=True), 2)),
        IMAGE,
        GROWS,
    ),
    "standard deviation": (lambda: linears(lambda h: h.std(1)), SEQUENCE, GROWS),
    "median of neurons": (
        lambda: linears(lambda h: h - h.median(1, keepdim=True).values),
        VECTOR,
        refused("reduced"),
    ),
    "products over time": (lambda: linears(lambda h: h.cumprod(1)), SEQUENCE, GROWS),
    "windows of a sequence": (
        lambda: linears(lambda h: h.unfold(1, 2, 1).amax(-1)),
        SEQUENCE,
        GROWS,
    ),
    "windows of neurons": (
        lambda: linears(lambda h: h.unfold(1, 2, 1).amax(-1), read=3),
        VECTOR,
        refused("space"),
    ),
    "columns of patches": (
        lambda: convolutions(lambda h: F.unfold(h, 2, stride=2).view(2, -1, 4, 4), read=16),
        IMAGE,
        GROWS,
    ),
    "patches put back": (
        lambda: convolutions(lambda h: F.fold(F.unfold(h, 3), (8, 8), 3)),
        IMAGE,
        GROWS,
    ),
    "pixel unshuffle": (lambda: convolutions(nn.PixelUnshuffle(2), read=16), IMAGE, GROWS),
    "channel shuffle": (
        lambda: convolutions(nn.ChannelShuffle(2)),
        IMAGE,
        {"a": (2, 2, ""), "b": OUT},
    ),
    "index of rows": (lambda: linears(lambda h: h[[0, 1], [2, 3]]), SEQUENCE, GROWS),
    "masked rows": (
        lambda: linears(lambda h: h[torch.tensor([[True, False, True, False, True]] * 2)]),
        SEQUENCE,
        GROWS,
    ),
    "index select": (
        lambda: linears(lambda h: h.index_select(1, torch.tensor([3, 0]))),
        SEQUENCE,
        GROWS,
    ),
    "index of a selection": (
        lambda: linears(lambda h: h + torch.ones(5, 4).to(h)[h.argsort(1)[0, :, 0]].mean()),
        SEQUENCE,
        refused("sliced"),
    ),
    "gathered where it is largest": (
        lambda: linears(lambda h: h.gather(1, h.argsort(1))),
        SEQUENCE,
        GROWS,
    ),
    "gathered neurons": (
        lambda: linears(lambda h: h.gather(1, torch.zeros(2, 4, dtype=torch.long))),
        VECTOR,
        refused("indexed"),
    ),
    "masked write": (lambda: linears(lambda h: _set(h, h > 0, 0.5)), VECTOR, GROWS),
    "written row": (lambda: linears(lambda h: _set(h, torch.tensor([0]), h[1:])), VECTOR, GROWS),
    "written neuron": (
        lambda: linears(lambda h: _set(h, (slice(None), torch.tensor([0])), 0.5)),
        VECTOR,
        refused("indexed"),
    ),
    "added rows": (
        lambda: linears(lambda h: h.index_add(1, torch.tensor([0, 0]), h[:, :2])),
        SEQUENCE,
        GROWS,
    ),
    "scattered rows": (
        lambda: linears(lambda h: h.scatter_add(1, h.argsort(1), h)),
        SEQUENCE,
        GROWS,
    ),
    "sorted over time": (lambda: linears(lambda h: h.sort(1).values), SEQUENCE, GROWS),
    "sorted neurons": (lambda: linears(lambda h: h.sort(1).values), VECTOR, refused("reduced")),
    "largest two in time": (lambda: linears(lambda h: h.topk(2, 1).values), SEQUENCE, GROWS),
    "counted": (
        lambda: linears(lambda h: h + torch.masked_select(h, h > 9).sum()),
        VECTOR,
        refused("indexed"),
    ),
    "triangle of space": (lambda: convolutions(lambda h: h.tril()), IMAGE, GROWS),
    "triangle of neurons": (lambda: linears(lambda h: h.triu()), VECTOR, refused("sliced")),
    "diagonal of space": (
        lambda: linears(lambda h: h[:, None].expand(-1, 5, -1, -1).diagonal(0, 1, 2).mT),
        SEQUENCE,
        GROWS,
    ),
    "sampled at coordinates": (
        lambda: convolutions(
            lambda h: F.grid_sample(h, h.new_full((2, 3, 3, 2), 0.3), align_corners=False)
        ),
        IMAGE,
        GROWS,
    ),
    "boxes": (lambda: convolutions(_boxes), IMAGE, GROWS),
    "deformable": (
        lambda: Net(
            lambda n, x: n.c(deform_conv2d(n.a(x), n.o(x), n.b.weight, n.b.bias)),
            a=nn.Conv2d(3, 4, 1),
            o=nn.Conv2d(3, 18, 3),
            b=nn.Conv2d(4, 5, 3),
            c=nn.Conv2d(5, 2, 1),
        ),
        IMAGE,
        {"a": FREE, "o": (18, 1, "indexed"), "b": (5, 1, ""), "c": OUT},
    ),
    "bag of embeddings": (
        lambda: nn.Sequential(nn.EmbeddingBag(10, 4), nn.Linear(4, 2)),
        torch.tensor([[1, 2, 3]]),
        {"0": FREE, "1": OUT},
    ),
    "spectrum of time": (
        lambda: linears(lambda h: torch.fft.rfft(h, dim=1).abs()),
        SEQUENCE,
        GROWS,
    ),
    "spectrum of neurons": (
        lambda: linears(lambda h: torch.fft.fft(h, dim=1).abs()),
        VECTOR,
        refused("space"),
    ),
    "complex numbers": (
        lambda: linears(lambda h: torch.view_as_real(torch.fft.rfft(h, dim=1)).sum(-1)),
        SEQUENCE,
        GROWS,
    ),
    "neurons as complex numbers": (
        lambda: linears(lambda h: torch.view_as_complex(h.view(2, 2, 2)).abs(), read=2),
        VECTOR,
        refused("grid"),
    ),
    "complex numbers side by side": (
        lambda: linears(
            lambda h: torch.view_as_complex(h.view(2, 2, 2).mT.contiguous()).abs(), read=2
        ),
        VECTOR,
        refused("grid"),
    ),
    "as many complex numbers as there are": (
        lambda: linears(lambda h: torch.view_as_complex(h.unflatten(-1, (-1, 2))).abs(), read=2),
        VECTOR,
        {"a": (2, 2, ""), "b": OUT},
    ),
}
