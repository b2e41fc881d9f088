"""The rank of a low-rank update (LoRA) is a width: it grows by new neurons, and alpha / r stays.

Reference: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, section 4.1.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from tests.networks import randomised

RANK, ALPHA = 2, 4.0


class Peft(nn.Module):
    """A frozen layer with an update whose parts have the names that peft gives them."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base.requires_grad_(requires_grad=False)
        self.scaling = {"default": ALPHA / RANK}
        down = nn.Linear(base.in_features, RANK, bias=False)
        up = nn.Linear(RANK, base.out_features, bias=False)
        self.lora_A = nn.ModuleDict({"default": down})
        self.lora_B = nn.ModuleDict({"default": up})

    def forward(self, x: Tensor) -> Tensor:
        y = self.base_layer(x)
        for name in self.lora_A:
            y = y + self.lora_B[name](self.lora_A[name](x)) * self.scaling[name]
        return y


class Raw(nn.Module):
    """The same by bare parameters, whose scale is computed in every pass."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, self.rank, self.alpha = base.requires_grad_(requires_grad=False), RANK, ALPHA
        self.lora_A = nn.Parameter(torch.zeros(RANK, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, RANK))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.lora_A.T @ self.lora_B.T * (self.alpha / self.rank)


CASES = [
    (Peft, "*lora_A*", "lora_A.default.weight", "lora_B.default.weight"),
    (Raw, "[02]", "lora_A", "lora_B"),
]


def points() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 5, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize(("layer", "pattern", "down", "up"), CASES)
def test_new_rows_are_random_and_new_columns_zero(
    layer: Any, pattern: str, down: str, up: str
) -> None:
    model = randomised(nn.Sequential(layer(nn.Linear(5, 4)), nn.Tanh(), layer(nn.Linear(4, 3))))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    wider = fxgrow.widen(model, {pattern: 3}, points(), how="new", optimizer=optimizer)
    torch.testing.assert_close(wider.module(points()), model(points()), rtol=1e-12, atol=1e-12)
    for number in (0, 2):
        old_down, old_up = (model[number].get_parameter(name) for name in (down, up))
        new_down, new_up = (wider.module[number].get_parameter(name) for name in (down, up))
        assert len(new_down) == RANK + 3 == new_up.shape[1]
        assert torch.equal(new_down[:RANK], old_down) and torch.equal(new_up[:, :RANK], old_up)
        assert new_down[RANK:].abs().min() > 0 and not new_up[:, RANK:].any()
        # The update learns at once, and the layer below it does not.
        assert new_down.requires_grad and new_up.requires_grad
    F.mse_loss(wider.module(points()), torch.zeros(6, 3, dtype=torch.float64)).backward()
    assert wider.module[0].get_parameter(up).grad[:, RANK:].abs().min() > 0
    assert all(not p.requires_grad for name, p in wider.module.named_parameters() if "base" in name)
    assert wider.optimizer is not None
    wider.optimizer.step()


def test_ranks_are_chosen_by_growth() -> None:
    model = randomised(nn.Sequential(Peft(nn.Linear(5, 4)), nn.Tanh(), Peft(nn.Linear(4, 3))))
    batches = [(points(), torch.tensor([0, 1, 2, 1, 0, 2]))]
    growth = fxgrow.grow(
        model, batches, F.cross_entropy, only=["*lora_A*"], budget=fxgrow.Budget(neurons=3)
    )
    grown = {width.width: width.after - width.before for width in growth.report.widths}
    assert sum(grown.values()) == 3 and all("lora_A" in name for name in grown)
    torch.testing.assert_close(growth.module(points()), model(points()), rtol=1e-9, atol=1e-9)
