"""What forwards do that torch.fx gives up on, and what a part says that stays opaque."""

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.capture import Captured, How, capture

X = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))


def _opaque(captured: Captured) -> dict[str, str]:
    return {part.module: part.why for part in captured.report if part.how is How.OPAQUE}


class Masked(nn.Module):
    """Hides by the smallest number of a type, in a part whose branch the inputs decide."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        info = torch.finfo(h.dtype)
        if not isinstance(torch.finfo(torch.float32), torch.finfo):
            raise TypeError
        if x.shape[0] > 1:
            h = h.masked_fill(h < 0, info.min).clamp(min=info.min / 2)
        largest = torch.iinfo(x.long().dtype).max
        out: Tensor = self.last(torch.softmax(h, -1)) + 0 * largest
        return out


@pytest.mark.parametrize("within", [False, True])
def test_the_smallest_number_of_a_type_is_asked_in_the_graph(within: bool) -> None:
    part = Masked()
    model = nn.Sequential(nn.Identity(), part) if within else part
    finfo = torch.finfo
    captured = capture(model.eval(), X)
    assert torch.finfo is finfo
    assert captured.how is How.TRACED
    assert captured.traced_share == 1
    # In another precision it is another number, which of float32 would be infinite here.
    for dtype in (torch.float32, torch.float64):
        graph_module, x = captured.graph_module.to(dtype), X.to(dtype)
        torch.testing.assert_close(graph_module(x), model.to(dtype)(x))


def test_what_a_trace_replaces_is_put_back_when_it_fails() -> None:
    class OnData(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.finfo(x.dtype).eps if x.sum() > 0 else x

    finfo, iinfo = torch.finfo, torch.iinfo
    capture(nn.Sequential(nn.Linear(6, 4), OnData()), X)
    assert (torch.finfo, torch.iinfo) == (finfo, iinfo)


GELU = nn.GELU()
"""A module that is nobody's part, as libraries keep their activations."""


class MadeOnTheWay(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(nn.Threshold(0.1, 0.0)(GELU(self.first(x))))
        return out


@pytest.mark.parametrize("within", [False, True])
def test_modules_that_are_no_parts_and_hold_nothing_are_traced(within: bool) -> None:
    model = nn.Sequential(MadeOnTheWay(), nn.Tanh()) if within else MadeOnTheWay()
    captured = capture(model.eval(), X)
    assert captured.how is How.TRACED
    assert not _opaque(captured)
    assert fxgrow.widen(model, {"*first": 2}, (X,)).module(X).shape == (3, 2)


def test_modules_that_are_no_parts_and_hold_parameters_are_not() -> None:
    hidden = [nn.Linear(4, 4)]

    class Holds(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = hidden[0](x)
            return out

    captured = capture(nn.Sequential(nn.Linear(6, 4), Holds(), nn.Linear(4, 2)), X)
    assert list(_opaque(captured)) in (["1"], [])  # a part, or the whole model was exported
    torch.testing.assert_close(captured.graph_module(X), captured.model(X))


class OnData(nn.Module):
    """Gives a dict with an entry of None, and branches on its values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> dict[str, Any]:
        sign = 1 if x.sum() > 1e9 else -1
        return {"hidden": self.layer(x) * sign, "attentions": None}


class LeavesOut(nn.Module):
    """Leaves out of its own output what is None, as the outputs of ``transformers`` do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.part, self.wide = nn.Linear(6, 4), OnData(), nn.Linear(4, 30)
        self.last = nn.Linear(30, 2)

    def forward(self, x: Tensor) -> dict[str, Any]:
        given = self.part(self.first(x))
        out = OrderedDict()
        out["logits"] = self.last(torch.relu(self.wide(given["hidden"])))
        if given["attentions"] is not None:
            out["attentions"] = given["attentions"]
        return out


def test_entries_that_an_opaque_part_leaves_empty() -> None:
    model = LeavesOut().double().eval()
    x = X.double()
    captured = capture(model, x)
    assert captured.how is How.TRACED
    assert list(captured.graph_module(x)) == ["logits"]
    growth = fxgrow.grow(
        model,
        [(x, torch.ones(3, 2, dtype=torch.float64))],
        lambda output, target: (output["logits"] - target).square().mean(),
        method=fxgrow.Firefly(new=1, steps=1, refine_steps=1, points=1),
        budget=fxgrow.Budget(neurons=2),
        accept_no_gain=True,
    )
    assert list(growth.module(x)) == ["logits"]
    assert growth.module.wide.out_features > 30


def test_an_entry_that_differs_is_a_difference() -> None:
    """Only entries of None may be missing."""

    class Differs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 4)

        def forward(self, x: Tensor) -> dict[str, Any]:
            out = {"logits": self.layer(x)}
            if type(x) is not Tensor:
                out["extra"] = x
            return out

    captured = capture(Differs(), X)
    assert list(captured.graph_module(X)) == ["logits"]
    assert captured.how is not How.TRACED


def test_an_opaque_part_says_which_line_is_to_blame() -> None:
    why = _opaque(capture(LeavesOut().eval(), X))["part"]
    line = OnData.forward.__code__.co_firstlineno + 1
    assert why == f"its code depends on the values of tensors (test_tracer.py:{line})"


def test_growth_says_why_nothing_can_be_inserted() -> None:
    class Opaque(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.last = nn.Linear(6, 40), nn.Linear(40, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(torch.relu(self.inner(x))) * (1 if x.sum() > 1e9 else -1)
            return out

    model = nn.Sequential(Opaque(), nn.Linear(4, 2)).eval()
    line = Opaque.forward.__code__.co_firstlineno + 1
    message = rf"0.inner: .*: it is one call in the graph, as its code .*\.py:{line}\)"
    with pytest.raises(fxgrow.GrowthError, match=message):
        fxgrow.grow(
            model, [(X, torch.ones(3, 2))], nn.functional.mse_loss, budget=fxgrow.Budget(neurons=2)
        )
