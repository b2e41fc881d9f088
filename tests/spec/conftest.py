"""Small hand-made graphs that the tests of this room save, load and damage."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from fxgrow.spec import describe, save

Edit = Callable[[dict[str, Any]], None]
Damage = Callable[[Edit], Path]


class Scale(nn.Module):
    """A module that is never called: the graph gets its parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(4), requires_grad=False)


class Net(nn.Module):
    """Convolution, batch norm, dropout, a got parameter, a temporary buffer, tied weights, constants in arguments."""

    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.inner = Scale()
        self.register_buffer("offset", torch.rand(4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.bn(self.conv(x)))
        h = torch.flatten(nn.functional.adaptive_avg_pool2d(h, (1, 1)), 1) * self.inner.scale
        h = self.drop(self.b(self.a(h))) + self.offset
        out: Tensor = h.to(torch.float32)[:, 1:3].clamp(-math.inf, 3.0)
        return out


@pytest.fixture
def inputs() -> tuple[Tensor]:
    torch.manual_seed(1)
    return (torch.randn(2, 3, 5, 5),)


@pytest.fixture
def net() -> fx.GraphModule:
    torch.manual_seed(0)
    return fx.symbolic_trace(Net().eval())


@pytest.fixture
def saved(tmp_path: Path, net: fx.GraphModule, inputs: tuple[Tensor]) -> Path:
    save(net, tmp_path / "run", describe(net, inputs))
    return tmp_path / "run"


@pytest.fixture
def damage(saved: Path) -> Damage:
    """Applies a change to the JSON of a saved directory."""

    def edit(change: Edit) -> Path:
        config = saved / "config.json"
        data = json.loads(config.read_text())
        change(data)
        config.write_text(json.dumps(data))
        return saved

    return edit
