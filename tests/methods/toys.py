"""A small RBF network, whose splitting matrix can be written down, and data for it."""

import torch
from torch import Tensor, nn


class RBF(nn.Module):
    """sum_i w_i exp(-(theta_i . [x, 1])^2 / 2) + b."""

    def __init__(self, neurons: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(1, neurons), nn.Linear(neurons, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(torch.exp(-self.inner(x).square() / 2))


def rbf(neurons: int, seed: int = 0) -> RBF:
    """In float64, with random weights."""
    torch.manual_seed(seed)
    return RBF(neurons).double()


def rbf_data() -> tuple[Tensor, Tensor]:
    """40 points of a wave."""
    x = torch.linspace(-4, 4, 40, dtype=torch.float64)[:, None]
    return x, torch.sin(2 * x) + 0.3 * x
