"""Small models that exporting has to get right, saved with random weights and statistics."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn
from torchvision import models

import fxgrow
from fxgrow.capture import capture
from fxgrow.spec import ArchitectureSpec, describe, save
from tests.networks import randomised
from tests.spec.conftest import Net

SWIN = {
    "patch_size": [4, 4],
    "embed_dim": 8,
    "depths": [2, 1],
    "num_heads": [1, 2],
    "window_size": [4, 4],
}
INVERTED = [[1, 8, 1, 1], [2, 8, 1, 2]]
IMAGE = torch.empty(1, 3, 32, 32)
Saved = Callable[[str], Path]


class Words(nn.Module):
    """Two inputs, one of them integers; an embedding tied to the output layer; a tuple and a dict of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 6)
        self.mix = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)
        self.score = nn.Linear(6, 40, bias=False)
        self.score.weight = self.embed.weight
        self.register_buffer("mask", torch.tensor([0.5, 2.0, -1.0]), persistent=False)

    def forward(self, words: Tensor, nn: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        h = self.norm(self.embed(words) * self.mask[:, None] + nn.unsqueeze(1))
        h = h + torch.tanh(self.mix(h))
        return self.score(h), {"mean": h.mean(dim=1), "sum": h.sum((1, 2), keepdim=True)}


class Odd(nn.Module):
    """In-place operators, a layer called twice, a container called twice, indices, a frozen layer, mixed dtypes."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.act = nn.ReLU(inplace=True)
        self.out = nn.Linear(4, 3).requires_grad_(False)
        self.wide = nn.Linear(4, 4).to(torch.float64)
        self.scale = nn.Parameter(torch.rand(4), requires_grad=False)

    def forward(self, x: Tensor, factor: float = 2.0) -> Tensor:
        x = self.twice(x) * factor
        x += 1
        x -= self.scale
        y = self.act(x.clone())
        y = self.twice(y) + (2 - x)
        y = self.wide(y.to(dtype=torch.float64)).to(torch.float32, copy=True)
        y = -(y**2) + 2**y + y.pow(2.0) + x[..., :1] ** -1
        y = torch.cat([y[:, :2], y[:, 2:]], dim=-1)
        return self.out(self.act(y))


class Filled(nn.Module):
    """Elements of a tensor that are assigned by numbers, slices and by tensors that choose them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        h = self.first(x)
        mask = torch.zeros_like(h)
        mask[:, 1:4] = 1.0
        mask[..., 0] = h[..., 5].sigmoid()
        h = h * mask
        h[places] = 2 * h[places]
        y = self.out(h)
        y[:, -1] = y[:, 0] + 1
        return y


ZOO: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...]]] = {
    "resnet": (
        lambda: models.ResNet(
            models.resnet.BasicBlock, [1, 1, 1, 1], width_per_group=64, num_classes=5
        ),
        (IMAGE,),
    ),
    "mobilenet": (lambda: models.MobileNetV2(5, 0.25, INVERTED), (IMAGE,)),
    "densenet": (lambda: models.DenseNet(4, (2, 2), 8, num_classes=5), (IMAGE,)),
    "vit": (lambda: models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5), (IMAGE,)),
    "swin": (lambda: models.SwinTransformer(**SWIN, num_classes=5), (IMAGE,)),
    "regnet": (
        lambda: models.RegNet(models.regnet.BlockParams.from_init_params(4, 8, 4.0, 2.0, 8), 5),
        (IMAGE,),
    ),
    "net": (Net, (torch.empty(2, 3, 5, 5),)),
    "words": (Words, (torch.zeros(2, 3, dtype=torch.int64), torch.empty(2, 6))),
    "odd": (Odd, (torch.empty(2, 4),)),
    "filled": (Filled, (torch.empty(3, 4), torch.tensor([2, 0]))),
}


def made(name: str) -> tuple[fx.GraphModule, ArchitectureSpec]:
    """A traced model of the zoo with nothing constant in it, and its spec."""
    torch.manual_seed(0)
    factory, example = ZOO[name]
    model = randomised(factory()).float()
    if name == "odd":
        model.wide.double()
    # torch.fx alone does not trace assignments to elements.
    graph_module = capture(model, example).graph_module
    return graph_module, describe(graph_module, example)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """The directory of a model of the zoo, made once."""
    known: dict[str, Path] = {}

    def directory(name: str) -> Path:
        if name not in known:
            known[name] = tmp_path_factory.mktemp("saved") / name
            save(made(name)[0], known[name], made(name)[1])
        return known[name]

    return directory


@pytest.fixture(scope="session")
def growth() -> fxgrow.Growth:
    """A small network grown once, in widths and in depth."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip
    randomised(model).float()
    batch = (torch.randn(8, 1, 6, 6), torch.arange(8) % 3)
    return fxgrow.grow(
        model,
        [batch],
        nn.functional.cross_entropy,
        example_inputs=batch[0][:1],
        method=fxgrow.Firefly(new=8, layers=2),  # few enough to leave room for layers
        budget=fxgrow.Budget(neurons=28, layers=2),
    )
