"""Small sound models whose saved directories are damaged: tied weights, opaque leaves, keywords, a growth history."""

import itertools
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

import fxgrow
from fxgrow.spec import describe


@dataclass(frozen=True)
class Base:
    """A saved directory: its config as JSON data and the bytes of its weights."""

    name: str
    config: Any
    weights: bytes


class Plain(nn.Module):
    """A convolution with statistics, an in-place layer, a slice, constants, a temporary buffer and a got parameter."""

    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.act = nn.ReLU(inplace=True)
        self.scale = nn.Parameter(torch.rand(3), requires_grad=False)
        self.register_buffer("offset", torch.rand(3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.flatten(
            nn.functional.adaptive_avg_pool2d(self.act(self.norm(self.conv(x))), (1, 1)), 1
        )
        result: Tensor = (
            (hidden * self.scale + self.offset).to(torch.float32)[:, 1:].clamp(-1.0, float("inf"))
        )
        return result


class Pair(nn.Module):
    """Two layers of one weight, to be called from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3)
        self.b = nn.Linear(3, 3)
        self.b.weight = self.a.weight


class Tied(nn.Module):
    """Two layers of one weight in a container, an optional second input, functions with keywords."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Pair()

    def forward(self, x: Tensor, bias: float = 0.5) -> Tensor:
        hidden = nn.functional.dropout(self.inner.a(x).relu(), p=0.1, training=False)
        return torch.cat((self.inner.b(hidden), hidden + bias), dim=1)


class Attention(nn.Module):
    """Leaves that stay closed: attention called with keywords and several results, a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.cell = nn.GRU(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        mixed, _ = self.attention(x, x, x, need_weights=False)
        result: Tensor = self.cell(mixed)[0]
        return result


def bases(seed: int) -> tuple[Base, ...]:
    """All of them, saved; weights drawn from ``seed``."""
    torch.manual_seed(seed)
    plain = (
        ("plain", Plain(), (2, 2, 4, 4)),
        ("tied", Tied(), (2, 3)),
        ("attention", Attention(), (2, 3, 4)),
    )
    with tempfile.TemporaryDirectory() as directory:
        traced = [
            _described(name, model, shape, Path(directory) / name) for name, model, shape in plain
        ]
        return (*traced, _grown(Path(directory) / "grown"))


def _described(name: str, model: nn.Module, shape: tuple[int, ...], directory: Path) -> Base:
    graph_module = fx.symbolic_trace(model.eval())
    fxgrow.spec.save(graph_module, directory, describe(graph_module, (torch.randn(shape),)))
    return _read(name, directory)


def _grown(directory: Path) -> Base:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    batches = [(torch.randn(8, 3), torch.randint(2, (8,)))]
    grown = fxgrow.grow(
        model,
        batches,
        nn.functional.cross_entropy,
        example_inputs=(batches[0][0],),
        budget=fxgrow.Budget(neurons=0.5),
    )
    fxgrow.save(grown, directory)
    return _read("grown", directory)


def _read(name: str, directory: Path) -> Base:
    config = json.loads((directory / "config.json").read_text())
    return Base(name, config, (directory / "model.safetensors").read_bytes())


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values inside ``value``, itself first."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [path, *itertools.chain.from_iterable(places(item, (*path, key)) for key, item in items)]
