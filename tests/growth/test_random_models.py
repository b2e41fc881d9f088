"""Models that draw numbers in evaluation mode: what is compared draws the same ones."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow


class Shuffles(nn.Module):
    """Takes its entries in an order that it draws, as ViLT does the patches of an image."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, torch.randperm(x.shape[1])]


def test_a_model_that_draws_grows() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Shuffles(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2)).double().eval()
    x, y = torch.randn(8, 6).double(), torch.randn(8, 2).double()
    growth = fxgrow.grow(
        model,
        [(x, y)],
        F.mse_loss,
        method=fxgrow.Firefly(new=2, steps=2, refine_steps=1, points=1),
        budget=fxgrow.Budget(neurons=2),
        accept_no_gain=True,
    )
    assert growth.module[1].out_features == 6
    assert growth.report.faithful_error < 1e-9
