"""New neurons pass through reshapes whose code holds the sizes of the old ones."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow.rewrite.lane_sizes import lane_shape


class Attention(nn.Module):
    """Queries, keys and values of one projection, as in timm: as many heads as there are of those."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads, self.head_size = heads, 2
        self.qkv = nn.Linear(6, 3 * heads * 2)
        self.proj = nn.Linear(heads * 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, self.head_size)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        x = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(
            x.transpose(1, 2).reshape(batch, tokens, self.heads * self.head_size)
        ).mean(1)


class FlatRows(nn.Module):
    """GPT-2's linear layer as torch.export gives it: rows are flattened, and sizes are numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.hidden = nn.Linear(6, 8), nn.Linear(8, 3), 8

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.ops.aten.view.default(x, [-1, 6])
        hidden = torch.ops.aten.view.default(self.up(rows), [4, 5, self.hidden])
        rows = torch.ops.aten.view.default(torch.tanh(hidden), [-1, self.hidden])
        return torch.ops.aten.view.default(self.down(rows), [4, 5, 3]).mean(1)


@pytest.mark.parametrize(
    ("model", "width", "size"),
    [(Attention(3), "qkv", 3), (Attention(2), "qkv", 2), (FlatRows(), "up", 8)],
)
def test_new_neurons_pass(model: nn.Module, width: str, size: int) -> None:
    torch.manual_seed(0)
    model = model.double()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    x, y = torch.randn(4, 5, 6, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    assert [one.name for one in fxgrow.couple(model, (x,)).widths if one.growable] == [width]
    method = fxgrow.Firefly(split=False, new=2, steps=4, refine_steps=2)
    growth = fxgrow.grow(
        model, [(x, y)], F.mse_loss, method=method, budget=fxgrow.Budget(neurons=2)
    )
    assert width not in growth.report.refusals
    ((grown),) = growth.report.widths
    assert (grown.before, grown.after, grown.new) == (size, size + 2, 2)
    assert (
        growth.report.faithful_error < 1e-12
        and growth.report.loss_after < growth.report.loss_before
    )


def test_the_shape_of_a_lane() -> None:
    """Old neurons take 6 entries of the last dimension, the lane 2."""
    lane = torch.zeros(4, 5, 2)
    assert lane_shape(lane, [4, 5, 6], 2, 2, {}) == [4, 5, -1]
    assert lane_shape(lane, (4, 5, 2), 2, 2, {}) == [4, 5, 2]
    assert lane_shape(lane, [20, -1], 1, 2, {}) == [20, -1]
    assert lane_shape(lane, [-1, 6], 1, 2, {}) == [-1, 2]


def test_along_which_dimension_heads_follow_each_other() -> None:
    model = Attention(3)
    coupling = fxgrow.couple(fxgrow.capture(model, (torch.randn(4, 5, 6),)))
    (width,) = [number for number, one in enumerate(coupling.widths) if one.growable]
    shape = coupling.shapes["reshape"]
    assert shape.size == (4, 5, 3, 3, 2) and shape.dims == {2, 3, 4}
    assert shape.grids[width] == {3}
