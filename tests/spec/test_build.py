"""Describing: what ends up in a spec, what is left out, and what is refused because it could not be loaded again."""

import operator
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.fx.graph import CodeGen

from fxgrow.errors import Refusal, SpecError
from fxgrow.spec import describe, load, save
from fxgrow.spec.build import fingerprint_of
from fxgrow.spec.models import ProvenanceSpec, RefusalSpec

X = (torch.ones(2, 3),)


def graph_module(body: Callable[[fx.Graph, fx.Node], Any], **parts: Any) -> fx.GraphModule:
    graph, root = fx.Graph(), nn.Module()
    for name, part in parts.items():
        setattr(root, name, part)
    graph.output(body(graph, graph.placeholder("x")))
    return fx.GraphModule(root, graph)


def test_modules_are_leaves_and_bare_containers_in_order(
    net: fx.GraphModule, inputs: tuple[Tensor]
) -> None:
    spec = describe(net, inputs)
    assert {item.name: item.type for item in spec.modules} == {
        "conv": "torch.nn.Conv2d", "bn": "torch.nn.BatchNorm2d", "act": "torch.nn.ReLU", "a": "torch.nn.Linear",
        "b": "torch.nn.Linear", "drop": "torch.nn.Dropout", "inner": "torch.nn.Module",
    }  # fmt: skip
    assert [item.name for item in spec.modules] == [n for n, _ in net.named_modules() if n]
    assert {item.name: item.tied_to for item in spec.parameters if item.tied_to} == {
        "b.weight": "a.weight"
    }
    assert [item.name for item in spec.buffers if not item.persistent] == ["offset"]
    assert spec.inputs[0].model_dump() == {"name": "x", "shape": (2, 3, 5, 5), "dtype": "float32"}


def test_what_the_graph_does_not_use_is_left_out() -> None:
    net = graph_module(lambda g, x: g.call_module("used", (x,)), used=nn.Linear(3, 4))
    net.add_module("unused", nn.Linear(9, 9))
    assert [item.name for item in describe(net, X).parameters] == ["used.weight", "used.bias"]


def test_a_part_of_a_leaf_belongs_to_the_leaf(tmp_path: Any) -> None:
    def both(graph: fx.Graph, x: fx.Node) -> fx.Node:
        pair = graph.call_module("attention", (x, x, x))
        return graph.call_module(
            "attention.out_proj", (graph.call_function(operator.getitem, (pair, 0)),)
        )

    net, example = graph_module(both, attention=nn.MultiheadAttention(4, 2)), (torch.ones(2, 3, 4),)
    spec = save(net, tmp_path / "run", describe(net, example))
    assert [item.name for item in spec.modules] == ["attention"]
    assert torch.equal(load(tmp_path / "run")(*example), net(*example))


def test_provenance_is_kept_and_comes_back(tmp_path: Any) -> None:
    net = graph_module(lambda g, x: g.call_function(torch.sin, (x,)))
    note = SimpleNamespace(rule="split", width="fc1", candidate=3)
    next(node for node in net.graph.nodes if node.name == "sin").meta["fxgrow"] = note
    spec = describe(net, X)
    assert spec.nodes[1].provenance == ProvenanceSpec(rule="split", width="fc1", candidate=3)
    save(net, tmp_path / "run", spec)
    assert describe(load(tmp_path / "run"), X).nodes == spec.nodes


def test_a_note_that_is_no_provenance_is_refused() -> None:
    net = graph_module(lambda g, x: g.call_function(torch.sin, (x,)))
    next(node for node in net.graph.nodes if node.name == "sin").meta["fxgrow"] = {"colour": "red"}
    with pytest.raises(SpecError) as caught:
        describe(net, X)
    assert (caught.value.code, caught.value.path) == ("bad-value", "nodes[sin]")


def test_widths_of_the_coupling_are_recorded() -> None:
    site = SimpleNamespace(parameter="fc.weight", axis=0, role="writes")
    refusal = Refusal("normalised", "layer norm runs over it", ("ln: layer_norm",))
    width = SimpleNamespace(
        name="fc", size=4, granule=2, sites=(site,), growable=False, refusal=refusal
    )
    net = graph_module(lambda g, x: g.call_module("fc", (x,)), fc=nn.Linear(3, 4))
    (record,) = describe(net, X, widths=[width]).widths
    assert (record.name, record.size, record.granule, record.growable) == ("fc", 4, 2, False)
    assert record.sites[0].model_dump() == {"parameter": "fc.weight", "axis": 0, "role": "writes"}
    assert record.refusal == RefusalSpec(
        code=refusal.code, reason=refusal.reason, nodes=refusal.nodes
    )


def test_inputs_with_a_default_may_be_left_out(tmp_path: Any) -> None:
    graph = fx.Graph()
    x, scale = graph.placeholder("x"), graph.placeholder("scale", default_value=2.0)
    graph.output(graph.call_method("mul", (x, scale)))
    net = fx.GraphModule(nn.Module(), graph)
    save(net, tmp_path / "run", describe(net, X))
    again = load(tmp_path / "run")
    assert torch.equal(again(*X), 2 * X[0])
    assert torch.equal(again(*X, scale=3.0), 3 * X[0])


def test_the_fingerprint_needs_only_shapes_of_inputs(
    net: fx.GraphModule, inputs: tuple[Tensor]
) -> None:
    spec = describe(net, inputs)
    assert fingerprint_of(net, spec.inputs) == spec.fingerprint


def pytree() -> fx.GraphModule:
    class Other(CodeGen):
        """Stands for the code generator of torch.export, which flattens its inputs."""

    net = graph_module(lambda g, x: x)
    net.graph.set_codegen(Other())
    return net


def unregistered() -> fx.GraphModule:
    net = graph_module(lambda g, x: g.get_attr("w"), w=nn.Parameter(torch.ones(1)))
    del net.w
    net.w = torch.ones(1)
    return net


REFUSED: dict[str, tuple[Callable[[], fx.GraphModule], tuple[Any, ...], str]] = {
    "function": (lambda: graph_module(lambda g, x: g.call_function(torch.save, (x,))), X, "unknown-target"),
    "own function": (lambda: graph_module(lambda g, x: g.call_function(pytree, ())), X, "unknown-target"),
    "method": (lambda: graph_module(lambda g, x: g.call_method("numpy", (x,))), X, "unknown-target"),
    "argument": (lambda: graph_module(lambda g, x: g.call_method("add", (x, 1j))), X, "bad-argument"),
    "container": (
        lambda: graph_module(lambda g, x: g.call_module("s", (x,)), s=nn.Sequential()), X, "unknown-class",
    ),
    "dtype": (
        lambda: graph_module(lambda g, x: g.get_attr("w"), w=nn.Parameter(torch.ones(1, dtype=torch.complex128))),
        X, "bad-argument",
    ),
    "plain tensor": (unregistered, X, "unknown-target"),
    "too few inputs": (lambda: graph_module(lambda g, x: x), (), "bad-input"),
    "too many inputs": (lambda: graph_module(lambda g, x: x), (*X, *X), "bad-input"),
    "input is no tensor": (lambda: graph_module(lambda g, x: x), (3,), "bad-input"),
    "does not run": (lambda: graph_module(lambda g, x: g.call_module("f", (x,)), f=nn.Linear(9, 9)), X, "not-runnable"),
    "pytree": (pytree, X, "pytree-signature"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "inputs", "code"), REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.filterwarnings("ignore:.*get_attr:UserWarning")
def test_what_could_not_be_loaded_again_is_refused(make: Any, inputs: Any, code: str) -> None:
    with pytest.raises(SpecError) as caught:
        describe(make(), inputs)
    assert caught.value.code == code


def test_a_name_beyond_the_limit_is_refused(inputs: tuple[Tensor]) -> None:
    graph = fx.Graph()
    graph.output(graph.call_module("a" * 600, (graph.placeholder("x"),)))
    root = nn.Module()
    root.add_module("a" * 600, nn.ReLU())
    with pytest.raises(SpecError) as caught:
        describe(fx.GraphModule(root, graph), inputs)
    assert (caught.value.code, caught.value.path) == ("too-large", "name")
