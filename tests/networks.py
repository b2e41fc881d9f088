"""Small networks for tests, each with one structure that growth must understand, and a way to make them non-trivial."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Residual(nn.Module):
    """A stem, two residual blocks (the second with a projection) and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.a1, self.a2 = nn.Conv2d(4, 5, 3, padding=1), nn.Conv2d(5, 4, 3, padding=1)
        self.b1, self.b2 = nn.Conv2d(4, 3, 3, stride=2, padding=1), nn.Conv2d(3, 6, 1)
        self.down = nn.Conv2d(4, 6, 1, stride=2)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.a2(torch.relu(self.a1(x))))
        x = torch.relu(self.down(x) + self.b2(torch.relu(self.b1(x))))
        return self.head(x.mean((2, 3)))


class Gate(nn.Module):
    """Depthwise convolution, squeeze-and-excitation, a scale parameter on the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.wide_norm = nn.Conv2d(3, 6, 1, bias=False), nn.BatchNorm2d(6)
        self.depth, self.depth_norm = (
            nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False),
            nn.BatchNorm2d(6),
        )
        self.squeeze, self.excite = nn.Conv2d(6, 2, 1), nn.Conv2d(2, 6, 1)
        self.project = nn.Conv2d(6, 4, 1)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.head = nn.Linear(4 * 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.silu(
            self.depth_norm(self.depth(nn.functional.silu(self.wide_norm(self.wide(x)))))
        )
        x = x * torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        x = torch.tanh(self.project(x) * self.scale)
        return self.head(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))


class Dense(nn.Module):
    """Concatenated features behind a shared batch norm, and a channel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 3, padding=1)
        self.norm, self.c = nn.BatchNorm2d(7), nn.Conv2d(7, 4, 1)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))
        x = torch.relu(self.norm(torch.cat([x, self.b(x)], 1)))
        x = self.c(x)
        n, c, h, w = x.size()
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(torch.relu(x).mean((2, 3)))


class Block(nn.Module):
    """Tokens with a normalised stream (which cannot grow) and an MLP (which can)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(3, 4), nn.LayerNorm(4)
        self.up, self.down, self.head = nn.Linear(4, 6), nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(2).transpose(1, 2))
        x = x + self.down(nn.functional.gelu(self.up(self.norm(x))))
        return self.head(x.mean(1))


def chain() -> nn.Module:
    """Convolutions, batch norm, pooling, a flattened map and linear layers."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, padding=1), nn.PReLU(4), nn.Flatten(), nn.Linear(36, 5),
        nn.ReLU(inplace=True), nn.Linear(5, 2),
    )  # fmt: skip


def grouped() -> nn.Module:
    """A grouped convolution between ordinary ones."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1, groups=2), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2),
    )  # fmt: skip


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "chain": chain,
    "residual": Residual,
    "gate": Gate,
    "dense": Dense,
    "grouped": grouped,
    "block": Block,
}


def images(count: int = 3, seed: int = 5) -> Tensor:
    """Random 3x6x6 images in float64."""
    return torch.randn(
        count, 3, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in float64 and eval mode with parameters and statistics random, so that equality says something."""
    generator = torch.Generator().manual_seed(seed)
    module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(
                0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            )
        for norm in (m for m in module.modules() if isinstance(m, _BatchNorm)):
            norm.running_mean.normal_(0, 0.3, generator=generator)  # type: ignore[union-attr]
            norm.running_var.uniform_(0.5, 2, generator=generator)  # type: ignore[union-attr]
    return module


def network(name: str, seed: int = 0) -> nn.Module:
    """A randomised network of the zoo."""
    torch.manual_seed(seed)
    return randomised(NETWORKS[name](), seed)
