"""The first way: torch.fx, with parts made opaque until the graph computes what the model computes."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from fxgrow.capture.parts import first_line
from fxgrow.capture.running import run_model, same_outputs
from fxgrow.capture.tracer import Tracer, drop_unused

_DIFFERS = "the fx graph of it computes something else than it does"


@dataclass(frozen=True)
class TraceAttempt:
    """A graph that computes what the model computes, or (None) why there is none; what of it is opaque, and why."""

    graph_module: fx.GraphModule | None
    opaque: dict[str, str]
    why: str = ""


def trace_model(
    model: nn.Module, inputs: tuple[Any, ...], expected: Any, decide: bool
) -> TraceAttempt:
    """Trace; where the graph disagrees with the model, make the part to blame opaque and trace again."""
    opaque: dict[str, str] = {}
    while True:
        tracer = Tracer(model, inputs, opaque, decide)
        try:
            graph_module = graph_of(model, tracer)
        except Exception as error:  # noqa: BLE001 - anything that the user's forward raises when it is fed proxies
            return TraceAttempt(None, tracer.opaque, first_line(error))
        wrong = disagreement(graph_module, inputs, expected)
        if wrong is None:
            return TraceAttempt(graph_module, tracer.opaque)
        culprit = _culprit(model, graph_module, tracer, inputs)
        if culprit in tracer.opaque or not culprit:
            return TraceAttempt(None, tracer.opaque, wrong)
        opaque = {**tracer.opaque, culprit: _DIFFERS}


def graph_of(model: nn.Module, tracer: Tracer) -> fx.GraphModule:
    """The graph over the model's own modules; constants that tracing made belong to the graph, not to the model."""
    try:
        graph_module = fx.GraphModule(model, tracer.trace(model), type(model).__name__)
    finally:
        tracer.state.restore(model)
    drop_unused(graph_module)
    return graph_module


def disagreement(graph_module: nn.Module, inputs: tuple[Any, ...], expected: Any) -> str | None:
    """What is wrong with a graph: None if it gives the expected output."""
    try:
        found = run_model(graph_module, inputs)
    except Exception as error:  # noqa: BLE001 - a wrong graph may raise anything
        return f"its fx graph does not run: {first_line(error)}"
    return None if same_outputs(expected, found) else _DIFFERS


def _culprit(
    model: nn.Module, graph_module: fx.GraphModule, tracer: Tracer, inputs: tuple[Any, ...]
) -> str:
    """The first part to finish with another result than in the model, or where the graph fails; "" for the root."""
    theirs = _results(model, inputs)
    walk = _Walk(graph_module)
    try:
        run_model(walk.run, inputs)
    except Exception:  # noqa: BLE001 - a wrong graph may raise anything
        return _innermost(walk.last)
    seen: Counter[str] = Counter()
    for path, nodes in tracer.calls:
        found = tree_map(lambda x: walk.seen.get(x.name) if isinstance(x, fx.Node) else x, nodes)
        real = theirs.get((path, seen[path]))
        seen[path] += 1
        if not same_outputs(real, found) and not tracer.is_leaf_module(
            model.get_submodule(path), path
        ):
            return path
    return ""


def _innermost(node: fx.Node | None) -> str:
    """The innermost part, no leaf, in which a node was traced."""
    stack = (
        [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
        if node is not None
        else []
    )
    inner = [
        path for path in stack if node is None or node.op != "call_module" or path != node.target
    ]
    return inner[-1] if inner else ""


def _results(model: nn.Module, inputs: tuple[Any, ...]) -> dict[tuple[str, int], Any]:
    """What every part gave at each of its calls."""
    found: dict[tuple[str, int], Any] = {}
    count: Counter[str] = Counter()

    def keep(path: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            found[path, count[path]] = _copied(output)
            count[path] += 1

        return hook

    handles = [module.register_forward_hook(keep(path)) for path, module in model.named_modules()]
    try:
        run_model(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _copied(value: Any) -> Any:
    return tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, value)


class _Walk(fx.Interpreter):
    """Runs a graph and keeps what every node gave."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.seen: dict[str, Any] = {}
        self.last: fx.Node | None = None

    @torch.no_grad()
    def run_node(self, n: fx.Node) -> Any:
        self.last = n
        result = super().run_node(n)
        self.seen[n.name] = _copied(result)
        return result
