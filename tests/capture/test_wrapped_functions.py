"""Functions that torch.fx is asked to call as a whole, and that write into what they get."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import fxgrow
from fxgrow import Budget, Firefly, capture, grow
from fxgrow.capture import How


def _double(h: Tensor) -> None:
    h.mul_(2.0)


def _add(h: Tensor, shortcut: Tensor) -> Tensor:
    h[:, 1:] += shortcut[:, 1:]
    return h


fx.wrap("_double")
fx.wrap("_add")


class Doubling(nn.Module):
    """The function gives nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 3)

    def hidden(self, x: Tensor) -> Tensor:
        h: Tensor = self.first(x) + 1.0
        _double(h)
        return h + self.second(x)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.hidden(x)).mean(1))
        return out


class Adding(Doubling):
    """The function gives what it wrote into, which nobody takes (torchvision's MViT)."""

    def hidden(self, x: Tensor) -> Tensor:
        h: Tensor = self.first(x) + 1.0
        _add(h, self.second(x))
        return h


X = torch.randn(5, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [Doubling, Adding])
def test_what_is_written_is_in_the_graph(kind: type[Doubling]) -> None:
    torch.manual_seed(0)
    model = kind().double().eval()
    captured = capture(model, (X,))
    assert captured.traced_share == 1
    assert (captured.how is How.TRACED) == (kind is Adding)
    torch.testing.assert_close(captured.graph_module(X + 1), model(X + 1))


@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.parametrize("kind", [Doubling, Adding])
def test_what_is_written_grows(kind: type[Doubling], how: str) -> None:
    torch.manual_seed(0)
    model = kind().double().eval()
    wider = fxgrow.widen(model, {"first": 3}, (X,), how=how).module  # type: ignore[arg-type]
    torch.testing.assert_close(wider(X), model(X), rtol=0, atol=1e-12)
    data, method = [(X, torch.tensor([0, 1, 2, 0, 1]))], Firefly(new=2, steps=2, refine_steps=1)
    growth = grow(
        model, data, F.cross_entropy, budget=Budget(neurons=3), method=method, accept_no_gain=True
    )
    assert growth.module.first.out_features > 6
