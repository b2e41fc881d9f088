"""Capture: the graph shares the model's parameters, reports what it could not trace, and leaves the model as it was."""

import types
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxgrow import Firefly, grow
from fxgrow.capture import How, capture, verify_capture
from fxgrow.coupling import couple
from fxgrow.errors import ModelError
from tests import construct_networks

X = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))


class OnData(nn.Module):
    """Branches on its values, which no graph can."""

    def __init__(self, size: int = 4) -> None:
        super().__init__()
        self.layer: nn.Module = nn.Linear(size, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum() > 0 else -self.layer(x)


class OnShape(OnData):
    """Branches on a size."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.shape[0] > 1 else -self.layer(x)


class Zeros(OnData):
    """Makes a tensor in a way that torch.fx cannot record, and torch.export can."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + torch.zeros(x.shape[0], 4)


class Mask(OnData):
    """Has an argument that is not given."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.layer(x) * mask if mask is not None else self.layer(x)


class Caches(OnData):
    """Keeps what it computed, in an attribute and in a dict, and counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__(6)
        self.kept: dict[str, Tensor] = {}
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        self.last = self.layer(x)
        self.kept["last"] = self.last
        return self.last


class Remembers(nn.Module):
    """Counts its calls in Python, so no graph computes what it does."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.calls


def within(part: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 4), nn.Sequential(part, nn.ReLU()), nn.Linear(4, 2))


def ways(model: nn.Module, inputs: Any = (X,)) -> list[tuple[str, How]]:
    return [(part.module, part.how) for part in capture(model, inputs).report]


def test_the_graph_computes_the_same_with_the_same_modules() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    captured = capture(model, X)
    assert torch.equal(captured.graph_module(X), model(X))
    assert captured.graph_module.get_submodule("0") is model[0]
    assert (captured.how, captured.traced_share, len(captured.report)) == (How.TRACED, 1.0, 1)


def test_what_depends_on_data_is_an_opaque_part() -> None:
    model = within(OnData())
    captured = capture(model, (X,))
    assert torch.equal(captured.graph_module(X), model(X))
    root, part = captured.report
    assert (root.module, root.how, part.module, part.how) == ("", How.TRACED, "1.0", How.OPAQUE)
    assert part.why.startswith("its code depends on the values of tensors (test_capture.py:")
    assert "_1_1" in [node.name for node in captured.graph_module.graph.nodes]
    assert captured.traced_share == pytest.approx(1 - 20 / (28 + 20 + 10))


def test_a_branch_on_a_shape_is_decided_and_asserted() -> None:
    captured = capture(within(OnShape()), (X,))
    assert [part.how for part in captured.report] == [How.TRACED]
    assert captured.graph_module(X[:2]).shape == (2, 2)
    with pytest.raises(AssertionError, match="captured for"):
        captured.graph_module(X[:1])


def test_a_part_that_holds_most_is_exported_rather_than_opaque() -> None:
    captured = capture(nn.Sequential(Zeros(6), nn.Linear(4, 1)), (X,))
    assert captured.how is How.EXPORTED
    assert "opaque" in captured.report[0].why


def test_a_part_that_holds_little_stays_opaque() -> None:
    assert ways(within(Zeros())) == [("", How.TRACED), ("1.0", How.OPAQUE)]


def test_an_exported_graph_shares_parameters_and_can_be_put_in_any_mode() -> None:
    model = Zeros(6)
    captured = capture(model, (X,))
    assert captured.how is How.EXPORTED
    assert dict(captured.graph_module.named_parameters())["layer.weight"] is model.layer.weight
    assert torch.equal(captured.graph_module.train()(X), model(X))
    assert torch.equal(captured.graph_module.eval()(X), model(X))


@pytest.mark.parametrize("make", [lambda: OnData(6), Remembers])
def test_what_no_way_takes_is_one_opaque_call(make: Any) -> None:
    model = make()
    captured = capture(model, (X,))
    assert (captured.how, captured.traced_share) == (How.OPAQUE, 0.0)
    assert captured.graph_module.model is model
    assert captured.graph_module(X).shape == model(X).shape
    assert "torch.fx: " in captured.report[0].why and "torch.export: " in captured.report[0].why


def test_arguments_that_are_not_given_are_their_defaults() -> None:
    model = Mask(6)
    assert torch.equal(capture(model, {"x": X}).graph_module(X), model(X))
    mask = torch.rand(2, 4)
    given = capture(model, {"mask": mask, "x": X})
    assert given.how is How.TRACED
    assert torch.equal(given.graph_module(X, mask), model(X, mask))


@dataclass
class Pair:
    first: Tensor
    rest: Any


class Containers(nn.Module):
    """Takes a list and a dict, gives a dataclass."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, xs: list[Tensor], more: dict[str, Tensor]) -> Pair:
        out = OrderedDict((name, self.layer(x)) for name, x in more.items())
        return Pair(torch.stack([self.layer(x) for x in xs]), out if "a" in more else None)


def test_lists_dicts_and_dataclasses_go_in_and_out() -> None:
    model, inputs = Containers(), ([X, -X, 2 * X], {"a": X + 1})
    captured = capture(model, inputs)
    assert captured.how is How.TRACED
    found, expected = captured.graph_module(*inputs), model(*inputs)
    assert torch.equal(found.first, expected.first)
    assert torch.equal(found.rest["a"], expected.rest["a"])


@pytest.mark.parametrize("make", [Caches, Remembers, lambda: within(OnData()), lambda: Zeros(6)])
def test_the_model_is_left_as_it_was(make: Any) -> None:
    model = make()
    next(iter(model.modules())).train()
    flags = [module.training for module in model.modules()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attributes = {name: dict(module.__dict__) for name, module in model.named_modules()}
    capture(model, (X,))
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert {name: dict(module.__dict__) for name, module in model.named_modules()} == attributes
    assert not getattr(model, "kept", {})


def test_verify_sees_a_graph_that_computes_something_else() -> None:
    captured = capture(within(OnShape()), (X,))
    assert verify_capture(captured) is None
    next(node for node in captured.graph_module.graph.nodes if node.target == "2").args = (1,)
    captured.graph_module.recompile()
    assert "does not run" in str(verify_capture(captured))


def test_a_part_that_traces_wrongly_is_found_and_made_opaque() -> None:
    class Switches(OnData):
        """Takes another way when it is traced."""

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) * (2 if torch.fx._symbolic_trace.is_fx_symbolic_tracing() else 1)

    model = within(nn.Sequential(Switches(), nn.Sigmoid()))
    captured = capture(model, (X,))
    assert [part.module for part in captured.report] == ["", "1.0.0"]
    assert torch.equal(captured.graph_module(X), model(X))


def test_a_model_that_does_not_run_is_refused_in_one_sentence() -> None:
    with pytest.raises(
        ModelError, match=r"^OnData does not run on its example inputs: [^\n]*$"
    ) as caught:
        capture(OnData(5), (X,))
    assert caught.value.code == "does-not-run"


def test_coupling_looks_through_an_opaque_part() -> None:
    part = OnShape()
    part.layer = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 4))
    width = couple(capture(nn.Sequential(nn.Linear(6, 4), part, nn.Linear(4, 2)), (X,))).by_name[
        "1.layer.0"
    ]
    assert (width.size, width.refusal) == (5, None)


def test_unused_nodes_are_dropped_and_writes_are_kept() -> None:
    class Wasteful(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x.relu()
            y = x + 1
            y.relu_()
            y[0] = 3
            return y

    captured = capture(Wasteful(), (X,))
    assert [node.name for node in captured.graph_module.graph.nodes] == [
        "x",
        "add",
        "relu_",
        "setitem",
        "output",
    ]
    assert captured.how is How.TRACED


def test_a_model_that_cannot_be_exported_is_captured_without_a_word(capfd: Any) -> None:
    """torch.export dumps the graph so far, where an operator depends on values."""
    model = construct_networks.network(["experts"], 1)
    capture(model, (construct_networks.sequences(3),))
    assert capfd.readouterr() == ("", "")


class AddsConstant(nn.Module):
    """Its forward makes a tensor of a Python number that depends on no input."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        offset = torch.tensor([1.0, 2.0])
        out: Tensor = torch.where(x.sum() > 1e9, offset, self.a(x) + offset)
        return out


def test_constants_that_tracing_makes_belong_to_the_graph() -> None:
    model = AddsConstant()
    captured = capture(model, (torch.randn(4, 3),))
    assert captured.how is How.TRACED
    assert any(node.op == "get_attr" for node in captured.graph_module.graph.nodes)
    assert not any("constant" in name for name in vars(model))


def test_a_layer_with_a_forward_of_its_own() -> None:
    """Its class does not say what it computes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    plus_one = lambda layer, x: F.linear(x, layer.weight, layer.bias) + 1  # noqa: E731
    model[0].forward = types.MethodType(plus_one, model[0])
    x = torch.randn(4, 5, dtype=torch.float64)
    captured = capture(model, (x,))
    assert not captured.graph_module.graph.find_nodes(op="call_module", target="0")
    growth = grow(
        model, [(x, torch.zeros(4, 3, dtype=torch.float64))], F.mse_loss, method=Firefly(new=1)
    )
    assert growth.module[0].out_features > 6
    assert growth.report.faithful_error < 1e-12


def test_a_graph_that_gives_fake_tensors_is_none() -> None:
    """What ``torch.func.grad`` leaves in an exported graph."""

    class Slopes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            slope = torch.func.grad(lambda z: z.sum())(x)
            return self.b(torch.relu(self.a(x))) + slope.sum()

    model, x = Slopes(), torch.randn(4, 5)
    torch.testing.assert_close(capture(model, (x,)).graph_module(x), model(x))


class BranchOnLength(nn.Module):
    """A part of whose branch the example decides, behind a view of a batch norm's result."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x.transpose(1, 2))
        h = h.view(h.shape[0] * 4, h.shape[2]).view(h.shape).transpose(1, 2)
        out: Tensor = self.inner(h) if h.shape[1] > 3 else h
        return out


def test_a_trace_that_answers_questions_views_as_the_model_does() -> None:
    model = nn.Sequential(nn.Linear(5, 4), BranchOnLength(), nn.Linear(4, 2)).eval()
    captured = capture(model, (torch.randn(3, 6, 5),))
    assert captured.how is How.TRACED
    assert captured.traced_share == 1


def test_arguments_by_keyword_alone_say_what_to_do() -> None:
    class ByKeyword(nn.Module):
        def forward(self, *, x: Tensor) -> Tensor:
            return x.relu()

    with pytest.raises(ModelError, match=r"takes 'x' by keyword alone.*take the \* out") as caught:
        capture(ByKeyword(), {"x": torch.randn(4, 2)})
    assert caught.value.code == "bad-inputs"
