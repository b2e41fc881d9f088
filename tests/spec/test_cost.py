"""Costs against numbers worked out by hand."""

import torch
from torch import Tensor, fx, nn

from fxgrow.spec import cost, multiply_adds


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


def test_tied_parameters_count_once(net: fx.GraphModule, inputs: tuple[Tensor]) -> None:
    assert cost(net, inputs).parameters == 4 * 3 * 9 + 2 * 4 + 4 * 4 + 4 + 4 + 4


def test_the_module_is_left_as_it_was(net: fx.GraphModule, inputs: tuple[Tensor]) -> None:
    net.train()
    net.get_submodule("drop").eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    multiply_adds(net, (inputs[0][:1, :, :1, :1],))  # one value per channel: an error in training mode
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert {name for name, module in net.named_modules() if not module.training} == {"drop"}
