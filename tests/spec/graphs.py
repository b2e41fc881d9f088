"""Specifications of the small networks, and the same graphs with their nodes renamed and reordered."""

import random
from typing import Any

import torch
from torch import fx

from fxgrow.spec import ArchitectureSpec, describe
from fxgrow.spec.arguments import NodeArg, decode, encode
from fxgrow.spec.diff.graph_view import node_operands
from fxgrow.spec.models import NodeSpec
from tests.networks import NETWORKS, network

X = (torch.ones(2, 3, 6, 6, dtype=torch.float64),)


def spec_of(name: str) -> ArchitectureSpec:
    return describe(fx.symbolic_trace(network(name)), X)


SPECS = {name: spec_of(name) for name in NETWORKS}


def renamed_node(node: NodeSpec, names: dict[str, str]) -> NodeSpec:
    def rename(argument: Any) -> Any:
        return encode(decode(argument, lambda name: NodeArg(node=names[name])))

    return node.model_copy(
        update={
            "name": names[node.name],
            "args": tuple(map(rename, node.args)),
            "kwargs": {key: rename(value) for key, value in node.kwargs.items()},
        }
    )


def reordered(nodes: tuple[NodeSpec, ...], rng: random.Random) -> list[NodeSpec]:
    """A random order in which every node still comes after what it reads, the inputs first and the output last."""
    waiting = list(nodes)
    done: list[NodeSpec] = []
    while waiting:
        known = {node.name for node in done}
        ready = [
            node
            for node in waiting
            if known.issuperset(node_operands(node)) and node.op != "output"
        ] or waiting
        inputs = [node for node in ready if node.op == "placeholder"][:1]
        node = rng.choice(inputs or ready)
        waiting.remove(node)
        done.append(node)
    return done


def shuffled(spec: ArchitectureSpec, seed: int) -> tuple[ArchitectureSpec, dict[str, str]]:
    """The same graph in another order, its nodes under each other's names."""
    rng = random.Random(seed)
    old = [node.name for node in spec.nodes]
    names = dict(zip(old, rng.sample(old, len(old)), strict=True))
    nodes = [renamed_node(node, names) for node in reordered(spec.nodes, rng)]
    return spec.model_copy(update={"nodes": tuple(nodes)}), names
