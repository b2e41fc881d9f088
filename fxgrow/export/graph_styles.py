"""What a picture shows of nodes: the shapes of their values, and what growth made of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from fxgrow.capture import Interpreter
from fxgrow.export.source_model import ExportSource, cloned
from fxgrow.export.summary import shape_text
from fxgrow.spec import ArchitectureSpec, WidthChange, parent_of


@dataclass(frozen=True)
class NodeStyle:
    """What growth did to a module: inserted it, or made it write more neurons (in words)."""

    words: str
    inserted: bool = False


def node_styles(spec: ArchitectureSpec) -> dict[str, NodeStyle]:
    """What growth did, over all steps of the history: module path -> its style."""
    writers = _writers(spec)
    styles = {}
    for width, words in _grown_widths(spec):
        # Not every specification holds its widths; they are named after the module that writes.
        for parameter in writers.get(width, [f"{width}.weight"]):
            styles[parent_of(parameter)] = NodeStyle(words)
    # A module that was put in is shown as such even if a later step widened it.
    inserted = tuple(_inserted_prefixes(spec))
    for module in spec.modules:
        if module.name.startswith(inserted):
            styles[module.name] = NodeStyle("", inserted=True)
    return styles


def _writers(spec: ArchitectureSpec) -> dict[str, list[str]]:
    """Width -> the parameters that write it, a row per neuron."""
    writers: dict[str, list[str]] = {}
    for width in spec.widths:
        writers[width.name] = [site.parameter for site in width.sites if site.role == "writes"]
    return writers


def _inserted_prefixes(spec: ArchitectureSpec) -> Iterator[str]:
    for step in spec.history:
        for layer in step.layers:
            yield f"{layer.name}."
        for blocks in step.blocks:
            for path in blocks.new_paths:
                yield f"{path}."


def _grown_widths(spec: ArchitectureSpec) -> Iterator[tuple[str, str]]:
    """Each width that grew, and how in words: ``4 -> 9 neurons (2 split, 3 new)``."""
    changes_of_width: dict[str, list[WidthChange]] = {}
    for step in spec.history:
        for change in step.widths:
            changes_of_width.setdefault(change.width, []).append(change)
    for width, changes in changes_of_width.items():
        yield width, _growth_words(changes)


def _growth_words(changes: list[WidthChange]) -> str:
    """All changes of one width, oldest first, as one."""
    split = sum(change.split for change in changes)
    new = sum(change.new for change in changes)
    counts = [f"{split} split"] if split else []
    if new:
        counts.append(f"{new} new")
    return f"{changes[0].before} -> {changes[-1].after} neurons ({', '.join(counts)})"


class _ShapeRecorder(Interpreter):
    """Runs a graph and notes the shape of every value."""

    def __init__(self, graph_module: fx.GraphModule) -> None:
        super().__init__(graph_module)
        self.shapes: dict[str, str] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n.name] = shape_text(result.shape)
        return result


@torch.no_grad()
def node_shapes(source: ExportSource) -> dict[str, str]:
    """Node name -> the shape of its value, for nodes whose value is one tensor."""
    recorder = _ShapeRecorder(source.graph_module)
    recorder.run(*cloned(source.example_inputs))
    return recorder.shapes
