"""Symbolic tracing first; what it cannot trace becomes an opaque leaf, and the report says so."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from fxgrow.errors import ModelError


class How(StrEnum):
    """How a part of the model was captured."""

    TRACED = "traced"
    OPAQUE = "opaque"


@dataclass(frozen=True)
class PartReport:
    """One part of the model: its path ("" is the whole), how it was captured, and why not better."""

    module: str
    how: How
    why: str = ""


@dataclass(frozen=True)
class Captured:
    """``graph_module`` calls the very modules of ``model``, so resizing one resizes both."""

    model: nn.Module
    graph_module: fx.GraphModule
    example_inputs: tuple[Any, ...]
    report: tuple[PartReport, ...]


class _Tracer(fx.Tracer):
    """Leaves are torch's own modules, library modules that hold no others, and what an earlier try failed on."""

    def __init__(self, opaque: frozenset[str]) -> None:
        super().__init__()
        self.opaque = opaque
        self.path: list[str] = [""]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        childless_library = m.__module__.startswith("torchvision.ops") and not any(m.children())
        return (
            module_qualified_name in self.opaque
            or childless_library
            or super().is_leaf_module(m, module_qualified_name)
        )

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        self.path.append(self.path_of_module(m))
        result = super().call_module(m, forward, args, kwargs)
        self.path.pop()  # not in a finally: after an error the path must still say where it happened
        return result


def capture(model: nn.Module, example_inputs: tuple[Any, ...]) -> Captured:
    """Trace ``model`` (in eval mode) to an fx graph and check that the graph gives the same output.

    ``example_inputs``: tuple of positional arguments. The model keeps its training flag and its parameters; the graph
    module shares them. Raises ``ModelError`` if the model itself cannot be traced or the graph disagrees with it.
    """
    flags = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            expected = model(*example_inputs)  # first, so that caches inside the model are filled with real values
            graph_module, opaque = _trace(model)
            _compare(model, expected, graph_module(*example_inputs))
    finally:
        for module, training in flags.items():
            module.training = training
    parts = (PartReport("", How.TRACED), *(PartReport(path, How.OPAQUE, why) for path, why in opaque.items()))
    return Captured(model, graph_module, example_inputs, parts)


def _trace(model: nn.Module) -> tuple[fx.GraphModule, dict[str, str]]:
    """Trace, making one more part opaque after each failure."""
    opaque: dict[str, str] = {}
    while True:
        tracer = _Tracer(frozenset(opaque))
        try:
            graph = tracer.trace(model)
        except Exception as error:  # anything that the user's forward raises when it is fed proxies
            place = tracer.path[-1]
            why = first_line(error)
            if not place:
                raise ModelError(
                    "untraceable", f"torch.fx cannot trace {type(model).__name__}.forward itself: {why}"
                ) from error
            opaque[place] = why
            continue
        graph_module = fx.GraphModule(tracer.root, graph, type(model).__name__)
        graph_module.graph.eliminate_dead_code()
        graph_module.recompile()
        return graph_module, opaque


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _compare(model: nn.Module, expected: Any, found: Any) -> None:
    """The graph must compute what the model computes (bit for bit up to the order of its own operations)."""
    for a, b in zip(tree_leaves(expected), tree_leaves(found), strict=True):
        if isinstance(a, Tensor) and not torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True):
            raise ModelError("capture-differs", f"the fx graph of {type(model).__name__} gives another output than it")
