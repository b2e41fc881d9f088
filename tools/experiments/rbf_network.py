"""The toy of Wu et al. 2020, Fig. 3: a two-layer RBF network, random ground truths, and the one training recipe."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RBFNetwork(nn.Module):
    """f(x) = b + sum_i w_i sigma(theta_i . [x, 1]) with sigma(t) = exp(-t^2 / 2)."""

    def __init__(self, neurons: int) -> None:
        super().__init__()
        self.inner = nn.Linear(1, neurons)
        self.outer = nn.Linear(neurons, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = self.inner(x)
        return self.outer(torch.exp(-z.square() / 2))


@dataclass(frozen=True)
class Truth:
    """How ground truths are drawn: theta and w ~ N(0, variance), inputs uniform in [-reach, reach].

    The paper says "1000 data points from a randomly generated RBF network"; these values are ours.
    """

    neurons: int = 15
    variance: float = 3.0
    points: int = 1000
    reach: float = 5.0

    def draw(self, seed: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets, [points, 1]; the targets have mean 0 and variance 1."""
        generator = torch.Generator().manual_seed(seed)
        network = RBFNetwork(self.neurons)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(
                    self.variance**0.5 * torch.randn(parameter.shape, generator=generator)
                )
            x = self.reach * (2 * torch.rand(self.points, 1, generator=generator) - 1)
            y = network(x)
            return x, (y - y.mean()) / y.std(correction=0)


@dataclass(frozen=True)
class Recipe:
    """Adam on all points at once, after every growth anew; the learning rate falls linearly to 0."""

    steps: int = 500
    lr: float = 0.05

    def train(self, model: nn.Module, x: Tensor, y: Tensor, steps: int | None = None) -> float:
        """Train for ``steps`` (the recipe's own, unless told otherwise); gives the loss after the last one."""
        count = steps or self.steps
        optimizer = torch.optim.Adam(model.parameters(), lr=self.lr, fused=True)
        for step in range(count):
            optimizer.param_groups[0]["lr"] = self.lr * (1 - step / count)
            optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            optimizer.step()
        with torch.no_grad():
            return float(F.mse_loss(model(x), y))
