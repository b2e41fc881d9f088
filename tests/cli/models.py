"""Factories of small models, for references such as ``tests.cli.models:tiny``."""

import torch
from torch import Tensor, nn

IMAGE = (1, 8, 8)


def tiny(num_classes: int = 10, channels: int = 4) -> tuple[nn.Module, tuple[Tensor]]:
    """Two convolutions and a classifier for grey images of 8 x 8."""
    return _network(num_classes, channels), (torch.zeros(1, *IMAGE),)


def unstated(num_classes: int = 10, channels: int = 4) -> nn.Module:
    """The same without example inputs."""
    return _network(num_classes, channels)


def residual(
    num_classes: int = 10, layers: int = 1, channels: int = 4
) -> tuple[nn.Module, tuple[Tensor]]:
    """Residual blocks between a stem and a classifier, with example inputs as ``tiny`` has them."""
    blocks = nn.Sequential(*(Residual(channels) for _ in range(layers)))
    stem = nn.Conv2d(1, channels, 3, padding=1)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
    return nn.Sequential(stem, blocks, head), (torch.zeros(1, *IMAGE),)


class Residual(nn.Module):
    """A residual block without norms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up, self.down = nn.Conv2d(channels, 3, 1), nn.Conv2d(3, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(x).relu())


def _network(classes: int, channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * channels, classes),
    )


def nothing_grows() -> tuple[nn.Module, tuple[Tensor]]:
    """One layer between input and output."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), (torch.zeros(1, *IMAGE),)


class Blocks(nn.Module):
    """Two residual blocks alike."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.a, self.b = (
            nn.Sequential(nn.Conv2d(4, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 1))
            for _ in range(2)
        )
        self.head = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = x + self.a(x)
        x = x + self.b(x)
        scores: Tensor = self.head(x.mean((2, 3)))
        return scores


def blocks() -> tuple[nn.Module, tuple[Tensor]]:
    return Blocks(), (torch.zeros(1, *IMAGE),)


class Attends(nn.Module):
    """Patches attend to each other in torch's own fused layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 4, stride=4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mix = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 8))
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        logits: Tensor = self.head(self.mix(tokens).mean(1))
        return logits


def attends(num_classes: int = 10) -> tuple[nn.Module, tuple[Tensor]]:
    torch.manual_seed(0)
    return Attends(num_classes), (torch.zeros(2, 1, 8, 8),)


class Explodes(nn.Module):
    """Gives infinite class scores."""

    def __init__(self) -> None:
        super().__init__()
        self.body = _network(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.body(x) * torch.inf
        return scores


def explodes() -> tuple[nn.Module, tuple[Tensor]]:
    return Explodes(), (torch.zeros(1, *IMAGE),)


def words() -> tuple[nn.Module, tuple[Tensor]]:
    """A model that takes no images."""
    return nn.Linear(5, 10), (torch.zeros(1, 5),)


def maps() -> tuple[nn.Module, tuple[Tensor]]:
    """A model that gives images."""
    return nn.Conv2d(1, 10, 1), (torch.zeros(1, *IMAGE),)


def bug() -> nn.Module:
    raise RuntimeError("a bug in the factory")


def interrupted() -> nn.Module:
    raise KeyboardInterrupt
