"""Capture: the graph shares the model's modules, reports what it could not trace, and leaves the model as it was."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxgrow.capture import capture
from fxgrow.capture.capture import How
from fxgrow.coupling import couple
from fxgrow.errors import ModelError

X = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))


class Decides(nn.Module):
    """Branches on a size, which torch.fx cannot trace."""

    def __init__(self) -> None:
        super().__init__()
        self.layer: nn.Module = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x) if x.shape[0] > 1 else -self.layer(x)
        return out


def with_a_deciding_part() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 4), nn.Sequential(Decides(), nn.ReLU()), nn.Linear(4, 2))


def test_the_graph_computes_the_same_with_the_same_modules() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    captured = capture(model, (X,))
    assert torch.equal(captured.graph_module(X), model(X))
    assert captured.graph_module.get_submodule("0") is model[0]
    assert [(part.module, part.how) for part in captured.report] == [("", How.TRACED)]


def test_what_cannot_be_traced_is_an_opaque_part() -> None:
    model = with_a_deciding_part()
    captured = capture(model, (X,))
    assert torch.equal(captured.graph_module(X), model(X))
    root, part = captured.report
    assert (root.module, part.module, part.how) == ("", "1.0", How.OPAQUE)
    assert "control flow" in part.why
    assert "_1_1" in [node.name for node in captured.graph_module.graph.nodes]


def test_coupling_looks_through_an_opaque_part() -> None:
    part = Decides()
    part.layer = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 4))
    width = couple(capture(nn.Sequential(nn.Linear(6, 4), part, nn.Linear(4, 2)), (X,))).by_name["1.layer.0"]
    assert (width.size, width.refusal) == (5, None)


def test_a_root_that_cannot_be_traced_is_refused_in_one_sentence() -> None:
    with pytest.raises(ModelError, match=r"torch.fx cannot trace Decides.forward itself: [^\n]*$") as caught:
        capture(Decides(), (X[:, :4],))
    assert caught.value.code == "untraceable"


@pytest.mark.parametrize("make", [with_a_deciding_part, Decides])
def test_training_flags_and_parameters_are_left_alone(make: Any) -> None:
    model = make()
    next(model.children()).eval()
    flags = [module.training for module in model.modules()]
    parameters = {name: p.detach().clone() for name, p in model.named_parameters()}
    try:
        capture(model, (X if make is not Decides else X[:, :4],))
    except ModelError:
        assert make is Decides
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(parameters[name], p) for name, p in model.named_parameters())


def test_unused_nodes_are_dropped() -> None:
    class Wasteful(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x.relu()
            return x + 1

    captured = capture(Wasteful(), (X,))
    assert [node.op for node in captured.graph_module.graph.nodes] == ["placeholder", "call_function", "output"]


def test_a_graph_that_would_compute_something_else_is_refused() -> None:
    class Remembers(nn.Module):
        """Counts its calls, which a graph cannot."""

        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x * self.calls

    with pytest.raises(ModelError, match="another output") as caught:
        capture(Remembers(), (X,))
    assert caught.value.code == "capture-differs"
