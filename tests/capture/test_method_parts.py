"""A method that branches on data is one call in the graph, where else there would be no graph."""

from typing import Any

import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.capture import How, capture

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double()


class Detector(nn.Module):
    """Gives of each row the scores above a threshold, as detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.head, self.threshold = nn.Linear(6, 8), nn.Linear(8, 3), 0.1
        self.scale = nn.Tanh()

    def keep(self, scores: Tensor, names: dict[str, Any]) -> list[dict[str, Tensor]]:
        found = []
        for row in scores:
            kept = torch.where(row > self.threshold)[0]
            row = self.scale(row[kept]) if len(kept) > 1 else row[kept]
            found.append({names["scores"]: row})
        return found

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        scores = self.head(torch.relu(self.wide(x)))
        if scores.shape[0] > 100:
            raise ValueError
        found = self.keep(scores, {"scores": "scores"})
        return [{"scores": 2 * one["scores"]} for one in found]


class WithParameters(Detector):
    """Its method needs a parameter, which a call in the graph would hide."""

    def keep(self, scores: Tensor, names: dict[str, Any]) -> list[dict[str, Tensor]]:
        return super().keep(scores + self.head.bias, names)


def _loss(output: list[dict[str, Tensor]], _: Tensor) -> Tensor:
    return torch.cat([one["scores"] for one in output]).square().mean()


def test_the_rest_of_the_model_is_traced() -> None:
    torch.manual_seed(0)
    model = Detector().double().eval()
    before = set(vars(model)) | set(model._modules)
    captured = capture(model, X)
    assert captured.how is How.TRACED
    assert captured.traced_share == 1
    assert captured.report[0].why.startswith(
        "its method keep is one call in the graph, as its code"
    )
    assert set(vars(model)) | set(model._modules) == before
    for x in (X, X.flip(0), 3 * X):  # whatever its data decide
        found, expected = captured.graph_module(x), model(x)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one["scores"], other["scores"])


def test_it_grows() -> None:
    torch.manual_seed(0)
    model = Detector().double().eval()
    growth = fxgrow.grow(
        model,
        [(X, X[:, 0])],
        _loss,
        method=fxgrow.Firefly(new=1, steps=1, refine_steps=1, points=1),
        budget=fxgrow.Budget(neurons=2),
        accept_no_gain=True,
    )
    assert growth.module.wide.out_features == 10
    assert type(growth.module) is Detector
    assert list(growth.module._modules) == ["wide", "head", "scale"]


def test_a_method_that_needs_parameters_is_no_part() -> None:
    torch.manual_seed(0)
    captured = capture(WithParameters().double().eval(), X)
    assert captured.how is How.OPAQUE
    assert "its code depends on the values of tensors" in captured.report[0].why
