"""What a picture says about nodes: the shapes of their values, and what growth made of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from fxgrow.export.source_model import ExportSource
from fxgrow.spec import ArchitectureSpec, parent_of


@dataclass(frozen=True)
class NodeStyle:
    """What growth did to a module: put it in, or made it write more neurons."""

    words: str
    inserted: bool = False


def node_styles(spec: ArchitectureSpec) -> dict[str, NodeStyle]:
    """What growth did to each module, over all steps of the history."""
    writers = {
        width.name: [site.parameter for site in width.sites if site.role == "writes"]
        for width in spec.widths
    }
    inserted = tuple(f"{layer.name}." for step in spec.history for layer in step.layers)
    grown = {
        parent_of(parameter): NodeStyle(words)
        for width, words in _grown(spec)
        for parameter in writers.get(width, (f"{width}.weight",))
    }
    new = {
        item.name: NodeStyle("", inserted=True)
        for item in spec.modules
        if item.name.startswith(inserted)
    }
    return {**grown, **new}


def _grown(spec: ArchitectureSpec) -> Iterator[tuple[str, str]]:
    """Width and its growth in words: from where to where, and how."""
    found = [change for step in spec.history for change in step.widths]
    for width in dict.fromkeys(change.width for change in found):
        own = [change for change in found if change.width == width]
        counts = (
            ("split", sum(change.split for change in own)),
            ("new", sum(change.new for change in own)),
        )
        how = ", ".join(f"{number} {word}" for word, number in counts if number)
        yield width, f"{own[0].before} -> {own[-1].after} neurons ({how})"


class _Shapes(fx.Interpreter):
    """Runs a graph and notes the shape of every value."""

    def __init__(self, graph_module: fx.GraphModule) -> None:
        super().__init__(graph_module)
        self.found: dict[str, str] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.found[n.name] = "x".join(map(str, result.shape)) or "scalar"
        return result


@torch.no_grad()
def node_shapes(subject: ExportSource) -> dict[str, str]:
    """Node name -> the shape of its value, for those that give one tensor."""
    run = _Shapes(subject.graph_module)
    run.run(*(each.clone() for each in subject.example_inputs))
    return run.found
