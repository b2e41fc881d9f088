"""Differences by name, growth summed from the history, nothing for what was only renamed."""

from typing import Any

import torch
from torch import Tensor, fx, nn

from fxgrow.spec import Cost, GrowthStep, MethodRecord, WidthChange, WidthSpec, describe, diff
from fxgrow.spec.models import ArchitectureSpec

X = (torch.ones(2, 3),)


def chain(hidden: int, **extra: Any) -> ArchitectureSpec:
    net = fx.symbolic_trace(nn.Sequential(nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, 2)))
    widths = [WidthSpec(name="0", size=hidden, growable=True)]
    return describe(net, X, widths=widths, **extra)


def step(parent: ArchitectureSpec, before: int, split: int, new: int, *scores: float) -> GrowthStep:
    change = WidthChange(width="0", before=before, after=before + split + new, split=split, new=new, scores=scores)
    cost = Cost(parameters=0, multiply_adds=0)
    return GrowthStep(
        parent=parent.fingerprint,
        method=MethodRecord(name="firefly"),
        widths=(change,),
        cost_before=cost,
        cost_after=cost,
    )


def test_equal_specs_differ_in_nothing() -> None:
    assert diff(chain(4), chain(4)).empty


def test_a_grown_width_with_its_history() -> None:
    a, b = chain(4), chain(6)
    first, second, older = step(a, 4, 1, 0, 0.5), step(b, 5, 0, 1, 0.25), step(chain(3), 3, 1, 0, 9.0)
    grown = chain(6, history=[older, first, second])
    found = diff(a, grown)
    (width,) = found.widths
    assert (width.name, width.before, width.after, width.split, width.new, width.score) == ("0", 4, 6, 1, 1, 0.75)
    assert [(m.name, m.attribute, m.before, m.after) for m in found.modules] == [
        ("0", "out_features", "4", "6"),
        ("2", "in_features", "4", "6"),
    ]
    assert [(t.name, t.before, t.after) for t in found.tensors] == [
        ("0.weight", (4, 3), (6, 3)), ("0.bias", (4,), (6,)), ("2.weight", (2, 4), (2, 6)),
    ]  # fmt: skip
    assert (found.cost_before.parameters, found.cost_after.parameters) == (26, 38)
    assert (found.cost_before.multiply_adds, found.cost_after.multiply_adds) == (40, 60)  # 2 samples
    assert (found.inserted, found.removed, found.changed) == ((), (), ())
    assert not found.empty


def test_without_common_history_only_sizes_are_known() -> None:
    (width,) = diff(chain(6), chain(4)).widths
    assert (width.before, width.after, width.split, width.new, width.score) == (6, 4, 0, 0, None)


def test_inserted_removed_and_changed_nodes(net: fx.GraphModule, inputs: tuple[Tensor]) -> None:
    a = describe(net, inputs)
    graph = net.graph
    flatten, clamp = (next(n for n in graph.nodes if n.name == name) for name in ("flatten", "clamp"))
    with graph.inserting_after(flatten):
        extra = graph.call_function(torch.sin, (flatten,))
    flatten.replace_all_uses_with(extra, lambda user: user is not extra)
    clamp.args = (clamp.args[0], -1.0, 3.0)
    net.recompile()
    b = describe(net, inputs)
    found = diff(a, b)
    assert found.inserted == ("sin",)
    assert [item.name for item in found.changed] == ["mul", "clamp"]
    assert found.changed[1].before == "call_method clamp(getitem, -inf, 3.0)"
    assert found.changed[1].after == "call_method clamp(getitem, -1.0, 3.0)"
    assert diff(b, a).removed == ("sin",)


def test_renamed_nodes_are_no_difference(net: fx.GraphModule, inputs: tuple[Tensor]) -> None:
    a = describe(net, inputs)
    graph = fx.Graph()
    value_map: dict[fx.Node, fx.Node] = {}
    for node in net.graph.nodes:
        value_map[node] = graph.node_copy(node, lambda old: value_map[old])
        value_map[node]._rename(f"renamed_{node.name}")
    assert diff(a, describe(fx.GraphModule(net, graph), inputs)).empty
