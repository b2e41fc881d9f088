"""Nodes are found again under other names and in another order; where there is a choice, both directions agree."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from fxgrow.spec import ArchitectureSpec, describe
from fxgrow.spec.diff.align import align
from fxgrow.spec.fingerprint import fingerprint
from tests.spec.graphs import SPECS, shuffled


def with_modules(spec: ArchitectureSpec, rename: Any) -> ArchitectureSpec:
    """The same graph with other names for modules and what is in them."""
    nodes = [
        n.model_copy(update={"target": rename(n.target)}) if n.op == "call_module" else n
        for n in spec.nodes
    ]
    parts = {
        key: tuple(
            item.model_copy(update={"name": rename(item.name)}) for item in getattr(spec, key)
        )
        for key in ("modules", "parameters", "buffers")
    }
    found = spec.model_copy(update={"nodes": tuple(nodes), **parts})
    return found.model_copy(update={"fingerprint": fingerprint(found)})


@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(sorted(SPECS)), seed=st.integers(0, 2**32))
def test_renamed_and_reordered_nodes_are_found(name: str, seed: int) -> None:
    spec = SPECS[name]
    other, names = shuffled(spec, seed)
    assert fingerprint(other) == spec.fingerprint
    assert align(spec, other).nodes == names


@pytest.mark.parametrize("name", sorted(SPECS))
def test_renamed_modules_are_found_by_what_calls_them(name: str) -> None:
    spec = SPECS[name]
    other = with_modules(spec, lambda target: f"stage.{target}")
    found = align(spec, other)
    assert found.nodes == {node.name: node.name for node in spec.nodes}
    leaves = [module.name for module in spec.modules]
    assert found.modules == {leaf: f"stage.{leaf}" for leaf in leaves}
    inside = [
        item.name
        for item in spec.tensors
        if any(item.name.startswith(f"{leaf}.") for leaf in leaves)
    ]
    assert {name: found.tensors[name] for name in inside} == {
        name: f"stage.{name}" for name in inside
    }


class Twins(nn.Module):
    """Two branches alike in everything but what reads them, and a layer in one of them or not."""

    def __init__(self, extra: bool) -> None:
        super().__init__()
        self.left, self.right, self.join = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
        if extra:
            self.more = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        left, right = torch.relu(self.left(x)), torch.relu(self.right(x))
        right = torch.relu(self.more(right)) if hasattr(self, "more") else right
        return self.join(left) - right


def twins(extra: bool) -> ArchitectureSpec:
    return describe(fx.symbolic_trace(Twins(extra)), (torch.ones(2, 3),))


@pytest.mark.parametrize("seed", range(4))
def test_twins_are_told_apart_by_what_follows(seed: int) -> None:
    names = {"left": "second", "right": "first", "join": "join"}
    other = with_modules(
        twins(False), lambda name: ".".join(names.get(part, part) for part in name.split("."))
    )
    assert align(twins(False), shuffled(other, seed)[0]).modules == names


def test_an_inserted_layer_shifts_names_but_no_pairs() -> None:
    found = align(twins(False), twins(True))
    assert found.nodes["relu_1"] == "relu_1" and found.nodes["relu"] == "relu"
    assert "more" not in found.nodes.values() and "relu_2" not in found.nodes.values()
    assert align(twins(True), twins(False)) == found.inverted()


@pytest.mark.parametrize("pair", [("residual", "gate"), ("dense", "chain"), ("block", "grouped")])
def test_strangers_are_aligned_one_to_one_and_alike_both_ways(pair: tuple[str, str]) -> None:
    a, b = (SPECS[name] for name in pair)
    found = align(a, b)
    assert len(set(found.nodes.values())) == len(found.nodes) >= 3
    operations = [{node.name: node.op for node in spec.nodes} for spec in (a, b)]
    assert all(operations[0][old] == operations[1][new] for old, new in found.nodes.items())
    assert align(b, a) == found.inverted()
