"""Every difference has its kind and its reason; growth is summed from the history; names and order are told apart."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

import fxgrow
from fxgrow.spec import (
    Cost,
    GrowthStep,
    MethodRecord,
    SpecDiff,
    WidthChange,
    WidthSpec,
    describe,
    diff,
)
from fxgrow.spec.diff.align import align
from fxgrow.spec.models import ArchitectureSpec, SiteSpec
from tests.networks import images, network
from tests.spec.graphs import SPECS, shuffled

X = (torch.ones(2, 3),)


def chain(hidden: int, **extra: Any) -> ArchitectureSpec:
    net = fx.symbolic_trace(nn.Sequential(nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, 2)))
    widths = [WidthSpec(name="0", size=hidden, growable=True)]
    return describe(net, X, widths=widths, **extra)


def step(parent: ArchitectureSpec, before: int, split: int, new: int, *scores: float) -> GrowthStep:
    change = WidthChange(
        width="0", before=before, after=before + split + new, split=split, new=new, scores=scores
    )
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
    first, second, older = (
        step(a, 4, 1, 0, 0.5),
        step(b, 5, 0, 1, 0.25),
        step(chain(3), 3, 1, 0, 9.0),
    )
    grown = chain(6, history=[older, first, second])
    found = diff(a, grown)
    (width,) = found.widths
    assert (width.name, width.before, width.after, width.split, width.new, width.score) == (
        "0",
        4,
        6,
        1,
        1,
        0.75,
    )
    assert [(m.name, m.attribute, m.before, m.after) for m in found.modules] == [
        ("0", "out_features", "4", "6"),
        ("2", "in_features", "4", "6"),
    ]
    assert [(t.name, t.before, t.after) for t in found.tensors] == [
        ("0.weight", (4, 3), (6, 3)), ("0.bias", (4,), (6,)), ("2.weight", (2, 4), (2, 6)),
    ]  # fmt: skip
    assert (found.cost_before.parameters, found.cost_after.parameters) == (26, 38)
    assert (found.cost_before.multiply_adds, found.cost_after.multiply_adds) == (
        40,
        60,
    )  # 2 samples
    assert (found.inserted, found.removed, found.changed) == ((), (), ())
    assert (found.steps, width.origin) == ((first, second), "history")
    assert not found.empty


def test_without_common_history_only_sizes_are_known() -> None:
    (width,) = diff(chain(6), chain(4)).widths
    assert (width.before, width.after, width.split, width.new, width.score) == (6, 4, 0, 0, None)


def test_inserted_removed_and_changed_nodes(net: fx.GraphModule, inputs: tuple[Tensor]) -> None:
    a = describe(net, inputs)
    graph = net.graph
    flatten, clamp = (
        next(n for n in graph.nodes if n.name == name) for name in ("flatten", "clamp")
    )
    with graph.inserting_after(flatten):
        extra = graph.call_function(torch.sin, (flatten,))
    flatten.replace_all_uses_with(extra, lambda user: user is not extra)
    clamp.args = (clamp.args[0], -1.0, 3.0)
    net.recompile()
    b = describe(net, inputs)
    found = diff(a, b)
    assert found.inserted == ("sin",)
    assert [(item.kind, item.name, item.caused_by) for item in found.changed] == [
        ("rewired", "mul", ("sin",)), ("arguments", "clamp", ()),
    ]  # fmt: skip
    assert found.changed[1].before == "call_method clamp(getitem, -inf, 3.0)"
    assert found.changed[1].after == "call_method clamp(getitem, -1.0, 3.0)"
    assert diff(b, a).removed == ("sin",)


def test_a_node_in_another_place_is_moved() -> None:
    graphs = [fx.Graph() for _ in range(2)]
    for graph, order in zip(
        graphs, ((torch.sin, torch.cos, torch.tan), (torch.cos, torch.tan, torch.sin)), strict=True
    ):
        x = graph.placeholder("x")
        values = {function: graph.call_function(function, (x,)) for function in order}
        graph.output((values[torch.sin], values[torch.cos], values[torch.tan]))
    a, b = (describe(fx.GraphModule(nn.Module(), graph), X) for graph in graphs)
    found = diff(a, b)
    assert (found.moved, found.cosmetic, found.empty) == (("sin",), True, False)
    assert diff(b, a).moved == ("sin",)


def as_text(found: SpecDiff) -> str:
    """The difference as JSON and back; the same."""
    assert SpecDiff.model_validate_json(found.model_dump_json()) == found
    return found.model_dump_json()


class Pair(nn.Module):
    """Two linear layers; what lies between can be replaced."""

    def __init__(self, between: nn.Module, names: tuple[str, str] = ("first", "last")) -> None:
        super().__init__()
        self.names = names
        setattr(self, names[0], nn.Linear(3, 4))
        self.between = between
        setattr(self, names[1], nn.Linear(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        first, last = (self.get_submodule(name) for name in self.names)
        return last(self.between(first(x)))


def pair(between: nn.Module, names: tuple[str, str] = ("first", "last")) -> ArchitectureSpec:
    return describe(fx.symbolic_trace(Pair(between, names)), X)


def test_another_class_under_the_same_name_is_a_change_of_the_module() -> None:
    found = diff(pair(nn.ReLU()), pair(nn.GELU()))
    assert [
        (m.name, m.attribute, m.before, m.after) for m in found.modules if m.attribute == "type"
    ] == [("between", "type", "torch.nn.ReLU", "torch.nn.GELU")]
    assert (found.inserted, found.removed) == ((), ())


def test_renamed_modules_are_renamed_and_nothing_else() -> None:
    found = diff(pair(nn.ReLU()), pair(nn.ReLU(), ("head", "tail")))
    assert [(r.before, r.after) for r in found.renamed if r.what == "module"] == [
        ("first", "head"),
        ("last", "tail"),
    ]
    assert found.cosmetic and not found.empty
    assert as_text(found)


def test_another_input_and_another_dtype() -> None:
    a, b = (
        describe(fx.symbolic_trace(nn.Linear(3, 2).to(kind)), (torch.ones(2, 3, dtype=kind),))
        for kind in KINDS
    )
    found = diff(a, b)
    assert [(i.name, i.before, i.after) for i in found.inputs] == [
        ("input", "float32[2, 3]", "float64[2, 3]")
    ]
    assert [(t.name, t.properties) for t in found.tensors] == [
        ("weight", ("dtype float32 -> float64",)), ("bias", ("dtype float32 -> float64",)),
    ]  # fmt: skip


KINDS = (torch.float32, torch.float64)


def test_sites_tell_which_width_a_shape_and_an_attribute_follow_from() -> None:
    places = (("0.weight", 0, "writes"), ("2.weight", 1, "reads"))
    sites = tuple(SiteSpec(parameter=name, axis=axis, role=role) for name, axis, role in places)
    a, b = (
        chain(size).model_copy(
            update={"widths": (WidthSpec(name="0", size=size, growable=True, sites=sites),)}
        )
        for size in (4, 6)
    )
    found = diff(a, b)
    causes = {(t.name, t.caused_by) for t in found.tensors}
    assert causes == {
        ("0.weight", ("0",)),
        ("2.weight", ("0",)),
        ("0.bias", ()),
    }  # the bias has no site here
    assert [(m.name, m.caused_by) for m in found.modules] == [("0", ("0",)), ("2", ("0",))]
    assert [t.name for t in found.unexplained()] == ["0.bias"]
    assert found.widths[0].parameters == 2 * 3 + 2 * 2


def test_two_widths_of_one_size_are_told_apart_by_their_ends() -> None:
    def square(size: int) -> ArchitectureSpec:
        net = nn.Sequential(
            nn.Linear(3, size), nn.ReLU(), nn.Linear(size, size), nn.ReLU(), nn.Linear(size, 2)
        )
        ends = {"0": ("0.weight", "2.weight"), "2": ("2.weight", "4.weight")}
        widths = [
            WidthSpec(
                name=name,
                size=size,
                growable=True,
                sites=(
                    SiteSpec(parameter=writes, axis=0, role="writes"),
                    SiteSpec(parameter=reads, axis=1, role="reads"),
                ),
            )
            for name, (writes, reads) in ends.items()
        ]
        return describe(fx.symbolic_trace(net), X, widths=widths)

    found = diff(square(4), square(6))
    causes = [(m.name, m.attribute, m.caused_by) for m in found.modules if m.name == "2"]
    assert causes == [("2", "in_features", ("0",)), ("2", "out_features", ("2",))]
    assert [t.caused_by for t in found.tensors if t.name == "2.weight"] == [("2", "0")]
    assert [width.parameters for width in found.widths] == [2 * 3 + 2 * 4, 2 * 4 + 2 * 2]


@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(sorted(SPECS)), seed=st.integers(0, 2**32))
def test_names_and_order_are_only_names_and_order(name: str, seed: int) -> None:
    spec = SPECS[name]
    assert diff(spec, spec).empty
    other, names = shuffled(spec, seed)
    found = diff(spec, other)
    assert found.cosmetic
    assert {r.before: r.after for r in found.renamed} == {
        old: new for old, new in names.items() if old != new
    }


@settings(max_examples=15, deadline=None)
@given(names=st.tuples(*[st.sampled_from(sorted(SPECS))] * 2), seed=st.integers(0, 2**32))
def test_both_directions_mirror_each_other(names: tuple[str, str], seed: int) -> None:
    a, (b, _) = SPECS[names[0]], shuffled(SPECS[names[1]], seed)
    there, back = diff(a, b), diff(b, a)
    assert (there.inserted, there.removed) == (back.removed, back.inserted)
    assert {(r.before, r.after) for r in there.renamed} == {
        (r.after, r.before) for r in back.renamed
    }
    new_names = align(a, b).nodes
    assert {new_names[name] for name in back.moved} == {*there.moved}
    for kind in ("changed", "modules", "tensors"):
        sides = [[(x.before, x.after) for x in getattr(found, kind)] for found in (there, back)]
        assert sorted(map(str, sides[0])) == sorted(str((old, new)) for new, old in sides[1])


def grown(name: str, **budget: Any) -> tuple[ArchitectureSpec, ArchitectureSpec]:
    """A network of the tests before and after a real growth step."""
    model, x = network(name).train(), images(8)
    y = torch.arange(8) % 2
    small = fxgrow.capture(model, x)
    before = describe(
        small.graph_module, small.example_inputs, widths=fxgrow.couple(small, x).widths
    )
    method = fxgrow.Firefly(steps=2, new=2, refine_steps=0, layers=2)
    loss = nn.functional.cross_entropy
    step = fxgrow.grow(
        model, [(x, y)], loss, example_inputs=x, method=method, budget=fxgrow.Budget(**budget)
    )
    return before, step.spec


@pytest.mark.parametrize("name", ["chain", "residual", "gate", "dense", "grouped", "block"])
def test_a_grown_network_is_explained_completely(name: str) -> None:
    a, b = grown(name, neurons=0.5, layers=1)
    found = diff(a, b)
    (step,) = b.history
    assert [
        (w.name, w.before, w.after, w.split, w.new, w.neurons, w.scores) for w in found.widths
    ] == [(w.width, w.before, w.after, w.split, w.new, w.neurons, w.scores) for w in step.widths]
    assert [(each.name, each.neurons) for each in found.layers] == [
        (each.name, each.neurons) for each in step.layers
    ]
    assert found.unexplained() == ()
    assert (found.inserted, found.removed, found.moved, found.inputs, found.steps) == (
        (),
        (),
        (),
        (),
        (step,),
    )
    assert found.tensors and found.cost_after == step.cost_after
    back = diff(b, a)
    assert [layer.change for layer in back.layers] == ["removed"] * len(step.layers)
    assert back.unexplained() == () and back.inserted == back.removed == ()
    assert as_text(back)
