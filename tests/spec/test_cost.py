"""Costs against numbers worked out by hand."""

import gc
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.autograd.graph import saved_tensors_hooks

from fxgrow.capture import capture
from fxgrow.errors import SpecError
from fxgrow.spec import cost, multiply_adds
from fxgrow.spec.cost import activation_terms, multiply_add_terms, parameter_terms, pass_cost
from tests.networks import NETWORKS, images, network


def traced(*layers: nn.Module) -> fx.GraphModule:
    return fx.symbolic_trace(nn.Sequential(*layers))


def test_linear_and_convolution() -> None:
    assert multiply_adds(traced(nn.Linear(3, 5)), (torch.ones(2, 3),)) == 2 * 3 * 5
    net = traced(nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.ReLU())
    assert multiply_adds(net, (torch.ones(1, 4, 7, 7),)) == 7 * 7 * 6 * (4 // 2) * 9


def test_attention_is_counted_without_its_fused_kernel() -> None:
    """Four projections of n*d*d, and scores and values of n*n*d each."""
    graph, root = fx.Graph(), nn.Module()
    root.a = nn.MultiheadAttention(8, 2, batch_first=True)
    x = graph.placeholder("x")
    graph.output(graph.call_module("a", (x, x, x), {"need_weights": False}))
    net = fx.GraphModule(root, graph).eval()
    assert multiply_adds(net, (torch.ones(1, 5, 8),)) == 4 * 5 * 8 * 8 + 2 * 5 * 5 * 8


class Packed(nn.Module):
    """Attention inside sequences of 4 and 6 words that lie in one tensor: its formula reads where they end."""

    def forward(self, x: Tensor) -> Tensor:
        ends = torch.tensor([0, 4, 10], dtype=torch.int32)
        whole: Tensor = torch.ops.aten._flash_attention_forward(
            x, x, x, ends, ends, 6, 6, 0.0, False, False
        )[0]
        return whole


def test_a_formula_that_reads_more_than_shapes_counts() -> None:
    heads, width = 3, 8
    assert multiply_adds(Packed(), (torch.ones(10, heads, width),)) == 2 * heads * width * (
        4 * 4 + 6 * 6
    )


class Either(nn.Module):
    """One layer or two, by the input's values."""

    def __init__(self) -> None:
        super().__init__()
        self.short, self.long = nn.Linear(4, 3), nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        chosen: Tensor = torch.cond(x.sum() > 0, self.short, self.long, (x,))
        return chosen


def test_the_dearer_of_two_branches_counts() -> None:
    x = torch.ones(2, 4)
    model = capture(Either(), (x,)).graph_module
    assert multiply_adds(model, (x,)) == 2 * (4 * 5 + 5 * 3)
    assert sum(term.value for term in multiply_add_terms(model, (x,))) == 2 * (4 * 5 + 5 * 3)
    assert len(activation_terms(model, (x,)))


def test_tied_parameters_count_once(net: fx.GraphModule, inputs: tuple[Tensor]) -> None:
    assert cost(net, inputs).parameters == 4 * 3 * 9 + 2 * 4 + 4 * 4 + 4 + 4 + 4


def test_the_module_is_left_as_it_was(net: fx.GraphModule, inputs: tuple[Tensor]) -> None:
    net.train()
    net.get_submodule("drop").eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    multiply_adds(
        net, (inputs[0][:1, :, :1, :1],)
    )  # one value per channel: an error in training mode
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert {name for name, module in net.named_modules() if not module.training} == {"drop"}


def kept(model: nn.Module, x: Tensor) -> int:
    """Bytes that a real pass keeps for the backward pass."""
    own = {
        tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())
    }
    found: dict[int, Any] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        model(x)
    return sum(storage.nbytes() for storage in found.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_terms_add_up(name: str) -> None:
    model, x = fx.symbolic_trace(network(name)), images()
    counted = cost(model, (x,))
    assert sum(term.value for term in parameter_terms(model, (x,))) == counted.parameters
    assert sum(term.value for term in multiply_add_terms(model, (x,))) == counted.multiply_adds
    assert sum(term.value for term in activation_terms(model, (x,))) == kept(model, x)


class Chosen(nn.Module):
    """Keeps an index and outputs of operators; with ``values`` its shapes follow from numbers."""

    index: Tensor

    def __init__(self, values: bool) -> None:
        super().__init__()
        self.layer, self.values = nn.Linear(3, 4), values
        self.register_buffer("index", torch.tensor([2, 0]))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.softmax(torch.tanh(self.layer(x)), 1).index_select(1, self.index).relu()
        return x[x[:, 0].nonzero()[:, 0]] if self.values else x


@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize("count", [activation_terms, multiply_add_terms, pass_cost, cost])
def test_what_was_counted_does_not_stay_alive(count: Any, values: bool) -> None:
    """A saved output that is handed on as it is keeps itself alive, where no collector sees it."""

    def tensors_alive() -> int:
        gc.collect()
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    model, x = Chosen(values), torch.randn(5, 3)
    before = tensors_alive()
    with suppress(SpecError):  # of what needs values one count is refused, after it has run
        count(model, (x,))
    assert tensors_alive() == before


def test_frozen_parameters_keep_their_activations_too() -> None:
    net = traced(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).requires_grad_(requires_grad=False)
    assert sum(term.value for term in activation_terms(net, (torch.ones(2, 3),))) == 4 * (
        2 * 3 + 2 * 5
    )
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_a_formula_gives_the_count_of_other_sizes() -> None:
    (small,) = multiply_add_terms(traced(nn.Conv2d(4, 6, 3, groups=2)), (torch.ones(2, 4, 5, 5),))
    (large,) = multiply_add_terms(traced(nn.Conv2d(8, 10, 3, groups=2)), (torch.ones(2, 8, 5, 5),))
    assert small.value == 2 * 6 * 2 * 9 * 9
    assert small.formula(large.sizes) == large.value == 2 * 10 * 4 * 9 * 9


class Anchors(nn.Module):
    """As those of torchvision's detectors: they follow the device of what they get."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = [torch.arange(4.0)]

    def forward(self, x: Tensor) -> Tensor:
        self.kept = [kept.to(x.device) for kept in self.kept]
        return x * self.kept[0]


@pytest.mark.parametrize("count", [multiply_adds, activation_terms, multiply_add_terms, cost])
def test_what_a_module_keeps_stays_where_it_is(count: Any) -> None:
    graph, root = fx.Graph(), nn.Module()
    root.layer, root.anchors = nn.Linear(3, 4), Anchors()
    x = graph.placeholder("x")
    graph.output(graph.call_module("anchors", (graph.call_module("layer", (x,)),)))
    net = fx.GraphModule(root, graph).eval()
    count(net, (torch.ones(2, 3),))
    assert net(torch.ones(2, 3)).shape == (2, 4)
    assert not root.anchors.kept[0].is_meta
