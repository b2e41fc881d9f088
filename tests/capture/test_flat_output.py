"""Outputs that torch.export does not know: the graph gives what the model gives."""

from typing import Any

import torch
from torch import Tensor, nn

from fxgrow.capture import How, capture


class Cache:
    """An object that no library has told torch about."""

    def __init__(self, keys: Tensor) -> None:
        self.layers = [{"keys": keys, "seen": 3}]
        self.parent: Any = None


class Caching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(5, 6)

    def forward(self, x: Tensor) -> dict[str, Any]:
        h = self.a(x)
        if not isinstance(h, Tensor):  # a symbol of torch.fx, so that torch.export has its turn
            raise TypeError("no symbols, please")
        outer = Cache(h)
        outer.parent = Cache(h * 2)
        return {"out": h.sum(1), "cache": outer}


def test_objects_in_the_output_are_rebuilt() -> None:
    model, x = Caching(), torch.randn(4, 5)
    captured = capture(model, x)
    assert captured.how is How.EXPORTED
    mine, theirs = captured.graph_module(x), model(x)
    assert type(mine["cache"]) is Cache and mine["cache"].layers[0]["seen"] == 3
    torch.testing.assert_close(mine["out"], theirs["out"])
    for found, expected in (
        (mine["cache"], theirs["cache"]),
        (mine["cache"].parent, theirs["cache"].parent),
    ):
        torch.testing.assert_close(found.layers[0]["keys"], expected.layers[0]["keys"])
    assert not hasattr(model.forward, "__wrapped__"), "the model itself is as it was"
