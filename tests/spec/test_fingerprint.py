"""What the fingerprint must not see (names and order of nodes, weights) and what it must."""

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from fxgrow.spec import describe

Body = Callable[[fx.Graph, fx.Node], Any]
X = (torch.ones(2, 3),)


def graph_module(body: Body, root: nn.Module | None = None) -> fx.GraphModule:
    graph = fx.Graph()
    graph.output(body(graph, graph.placeholder("x")))
    return fx.GraphModule(root or nn.Module(), graph)


def fingerprint(body: Body, root: nn.Module | None = None) -> str:
    return describe(graph_module(body, root), X).fingerprint


def ab(graph: fx.Graph, x: fx.Node) -> object:
    a = graph.call_function(torch.sin, (x,))
    return graph.call_function(torch.sub, (a, graph.call_function(torch.cos, (x,))))


def ba(graph: fx.Graph, x: fx.Node) -> object:
    b = graph.create_node("call_function", torch.cos, (x,), name="other")
    return graph.call_function(torch.sub, (graph.call_function(torch.sin, (x,)), b))


def swapped(graph: fx.Graph, x: fx.Node) -> object:
    b = graph.call_function(torch.cos, (x,))
    return graph.call_function(torch.sub, (b, graph.call_function(torch.sin, (x,))))


def test_names_and_order_of_nodes_do_not_matter() -> None:
    assert fingerprint(ab) == fingerprint(ba)


def test_names_of_inputs_do_not_matter_but_their_order_does() -> None:
    def subtract(first: str, second: str, swap: bool) -> str:
        graph = fx.Graph()
        a, b = graph.placeholder(first), graph.placeholder(second)
        graph.output(graph.call_method("sub", (b, a) if swap else (a, b)))
        return describe(fx.GraphModule(nn.Module(), graph), (*X, *X)).fingerprint

    assert (
        subtract("a", "b", swap=False)
        == subtract("b", "c", swap=False)
        != subtract("a", "b", swap=True)
    )


def test_order_of_operands_matters() -> None:
    assert fingerprint(ab) != fingerprint(swapped)


def test_an_integer_is_not_its_float() -> None:
    one, point = (lambda g, x, c=c: g.call_method("mul", (x, c)) for c in (1, 1.0))
    assert fingerprint(one) != fingerprint(point)


@pytest.mark.parametrize("method", ["relu", "relu_"])
def test_order_matters_only_around_an_in_place_operation(method: str) -> None:
    def read_first(graph: fx.Graph, x: fx.Node) -> object:
        a, b = graph.call_method("abs", (x,)), graph.call_method(method, (x,))
        return (a, b)

    def write_first(graph: fx.Graph, x: fx.Node) -> object:
        b, a = graph.call_method(method, (x,)), graph.call_method("abs", (x,))
        return (a, b)

    assert (fingerprint(read_first) == fingerprint(write_first)) is (method == "relu")


def test_order_matters_around_an_assignment_to_elements() -> None:
    def read_first(graph: fx.Graph, x: fx.Node) -> object:
        a = graph.call_method("abs", (x,))
        graph.call_function(operator.setitem, (x, 0, 1.0))
        return (a, x)

    def write_first(graph: fx.Graph, x: fx.Node) -> object:
        graph.call_function(operator.setitem, (x, 0, 1.0))
        return (graph.call_method("abs", (x,)), x)

    def never_written(graph: fx.Graph, x: fx.Node) -> object:
        return (graph.call_method("abs", (x,)), x)

    prints = {fingerprint(made) for made in (read_first, write_first, never_written)}
    assert len(prints) == 3


def linear(graph: fx.Graph, x: fx.Node) -> object:
    return graph.call_module("fc", (x,))


def holding(layer: nn.Module) -> nn.Module:
    root = nn.Module()
    root.fc = layer
    return root


def test_weights_and_freezing_do_not_matter_but_shapes_do() -> None:
    frozen = nn.Linear(3, 4).requires_grad_(requires_grad=False)
    prints = [
        fingerprint(linear, holding(layer)) for layer in (nn.Linear(3, 4), frozen, nn.Linear(3, 5))
    ]
    assert prints[0] == prints[1] != prints[2]


def test_tying_matters(net: fx.GraphModule, inputs: tuple[Tensor]) -> None:
    tied = describe(net, inputs)
    b = net.get_submodule("b")
    b.weight = nn.Parameter(torch.zeros(4, 4))
    assert describe(net, inputs).fingerprint != tied.fingerprint
