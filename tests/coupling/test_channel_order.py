"""Widths without a local order: the channel deals of a ShuffleNet."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fxgrow.coupling import change_maps, couple
from fxgrow.coupling.channel_order import _lookup, _numbered
from fxgrow.growth.widen import widen
from fxgrow.surgery.index_map import Change
from fxgrow.surgery.resize import resize
from tests.coupling.models import Net


def deal(x: Tensor) -> Tensor:
    """Two groups of channels, dealt out one by one."""
    return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def stage(channels: int) -> nn.Module:
    """A stream of 2 ``channels``, half of which every block replaces before it deals the whole out again."""

    def forward(net: Any, x: Tensor) -> Tensor:
        x = deal(torch.cat((net.a(x), net.b(x)), 1))
        for block in (net.c, net.d):
            kept, replaced = x.chunk(2, 1)
            x = deal(torch.cat((kept, block(replaced).relu()), 1))
        return net.out(x)  # type: ignore[no-any-return]

    conv = [
        nn.Conv2d(i, o, 1)
        for i, o in ((5, channels), (5, channels), (channels, channels), (channels, channels))
    ]
    return Net(forward, **dict(zip("abcd", conv, strict=True)), out=nn.Conv2d(2 * channels, 2, 1))


IMAGES = torch.randn(2, 5, 4, 4, dtype=torch.float64)


@pytest.mark.parametrize("how", ["split", "new"])
def test_a_stream_that_halves_evenly_grows(how: Any) -> None:
    model = stage(8).double()
    coupling = couple(model, (IMAGES,))
    growable = {width.name: 1 for width in coupling.widths if width.growable}
    assert growable
    wider = widen(model, growable, (IMAGES,), how=how).module
    torch.testing.assert_close(wider(IMAGES), model(IMAGES), rtol=1e-12, atol=1e-12)


def test_a_stream_whose_half_is_odd_is_refused() -> None:
    """Of 2 x 3 channels half a deal is 1.5: copies would cross from one half of the chunk to the other."""
    widths = couple(stage(3), (IMAGES.float(),)).widths
    assert {
        width.refusal.code for width in widths if width.refusal and width.refusal.code != "output"
    } <= {
        "grid",
        "order",
    }
    assert not any(width.growable for width in widths)


class Beside(nn.Module):
    """A grouped convolution, with its input beside its output."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels + 2, 1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.conv(x)), 1)


def test_every_change_is_replayed_by_itself() -> None:
    """Groups that cut through a concatenation: the maps of each change are those of its own run."""
    model = nn.Sequential(
        nn.Conv2d(5, 4, 1), Beside(4), nn.Conv2d(10, 6, 1, groups=2), nn.Conv2d(6, 2, 1)
    ).double()
    coupling = couple(model, (IMAGES,))
    assert coupling.replay
    (number,) = coupling.replay.singly
    size = coupling.widths[number].size
    for change in (
        Change((2,) * size),
        Change((1,) * size, new=1),
        Change((3,) + (1,) * (size - 1)),
    ):
        maps = change_maps(coupling, {number: change})
        wider = copy.deepcopy(model)
        resize(wider, maps)
        torch.testing.assert_close(wider(IMAGES), model(IMAGES), rtol=1e-12, atol=1e-12)


def test_equal_arrivals_are_numbered() -> None:
    element, block = np.array([7, 7, 5, 7]), np.array([0, 1, 0, 0])
    assert _numbered(element, block).tolist() == [[7, 0], [7, 0], [5, 0], [7, 1]]
    assert _lookup(
        _numbered(element, 0 * block), _numbered(np.array([5, 9, 7]), np.zeros(3, np.int64))
    ).tolist() == [
        2,
        -1,
        0,
    ]
