"""The first way: torch.fx, with parts made opaque until the graph computes what the model does."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from fxgrow.capture.einsums import split_einsums
from fxgrow.capture.hooks import HOOKS_LEFT_OUT, hook_numbers, hookless_twin, tolerant_hooks
from fxgrow.capture.in_place import is_wrapped_function
from fxgrow.capture.interpreter import Interpreter
from fxgrow.capture.method_parts import failing_method, put_in
from fxgrow.capture.parts import first_line, why_untraced
from fxgrow.capture.running import clone_tensors, run_model, same_outputs
from fxgrow.capture.symbolic_calls import symbolic_calls
from fxgrow.capture.tracer import Tracer, drop_unused

_DIFFERS = "the fx graph of it computes something else than it does"


@dataclass(frozen=True)
class TraceAttempt:
    """A graph that computes what the model computes, if there is one.

    Args:
        graph_module: the graph; None if there is none.
        opaque: by path of each opaque part, why it is opaque.
        why: why there is no graph.
        by_methods: whether there is one only because some methods are one call in it.
    """

    graph_module: fx.GraphModule | None
    opaque: dict[str, str]
    why: str = ""
    by_methods: bool = False


def trace_model(
    model: nn.Module,
    inputs: tuple[Any, ...],
    expected: Any,
    decide: bool,
    changing: Collection[int] = (),
) -> TraceAttempt:
    """Trace; where the graph disagrees with the model, make the part to blame opaque, trace again.

    Args:
        model: the model, in evaluation mode.
        inputs: its positional arguments.
        expected: its output on them.
        decide: see ``Tracer``.
        changing: the numbers of the hooks that change values.

    Returns:
        The graph, or why there is none.
    """
    opaque: dict[str, str] = {}
    methods: dict[tuple[str, str], str] = {}
    while True:
        tracer = Tracer(model, inputs, opaque, decide, changing)
        try:
            graph_module = graph_of(model, tracer, methods)
        except Exception as error:  # noqa: BLE001 - the user's forward meets proxies
            method = failing_method(model, error) if decide else None
            if method is not None and method not in methods:
                methods[method] = why_untraced(error, tracer.packages)
                continue
            why = next(iter(methods.values()), why_untraced(error, tracer.packages))
            return TraceAttempt(None, tracer.opaque, why)
        _drop_calls_without_result(graph_module, inputs)
        wrong = disagreement(graph_module, inputs, expected)
        if wrong is None:
            _leave_out_empty_entries(graph_module, expected)
            why = _why_of_methods(methods)
            return TraceAttempt(graph_module, tracer.opaque, why, by_methods=bool(methods))
        culprit = _culprit(model, graph_module, tracer, inputs)
        if culprit in tracer.opaque or not culprit:
            return TraceAttempt(None, tracer.opaque, next(iter(methods.values()), wrong))
        opaque = {**tracer.opaque, culprit: _DIFFERS}


def _why_of_methods(methods: Mapping[tuple[str, str], str]) -> str:
    reasons = []
    for (path, name), why in methods.items():
        method = f"{path}.{name}".removeprefix(".")
        reasons.append(f"its method {method} is one call in the graph, as {why}")
    return "; ".join(reasons)


def graph_of(
    model: nn.Module, tracer: Tracer, methods: Iterable[tuple[str, str]] = ()
) -> fx.GraphModule:
    """The graph over the model's own modules.

    Args:
        model: the model.
        tracer: a new tracer for it.
        methods: those that are one call each: the path of the module and the name.

    Returns:
        The graph. Constants that tracing made belong to it, not to the model.
    """
    try:
        put_in(model, methods, tracer)
        with tolerant_hooks(model, tracer.changing), symbolic_calls(tracer):
            graph = tracer.trace(model)
        for node in graph.nodes:
            # Else torch.fx would look for this function in the code of every later graph.
            node.meta.pop("is_wrapped", None)
        # Before the model is put back: until then it holds the constants that tracing made.
        graph_module = fx.GraphModule(model, graph, type(model).__name__)
    finally:
        tracer.state.restore(model)
    _take_hooks_off(graph_module, model, tracer)
    drop_unused(graph_module)
    split_einsums(graph_module)
    return graph_module


def _take_hooks_off(graph_module: fx.GraphModule, model: nn.Module, tracer: Tracer) -> None:
    """Call the leaves whose hooks are in the graph without these hooks.

    Hooks of parts that are no module of the graph are noted, unless they are in the graph.

    Raises:
        TypeError: another part of the graph calls the module that holds such a leaf.
    """
    for path, numbers in tracer.traced_hooks.items():
        parent, _, name = path.rpartition(".")
        holder = graph_module.get_submodule(parent)
        if holder is model.get_submodule(parent):
            raise TypeError(f"{parent} is called as a whole and for its part {name}")
        holder.add_module(name, hookless_twin(model.get_submodule(path), numbers))
    called = {str(node.target) for node in graph_module.graph.find_nodes(op="call_module")}
    left_out = []
    for path, module in model.named_modules():
        if path not in called and hook_numbers(module) - tracer.changing:
            left_out.append(path)
    graph_module.meta[HOOKS_LEFT_OUT] = left_out


def _drop_calls_without_result(graph_module: fx.GraphModule, inputs: tuple[Any, ...]) -> None:
    """Take calls of wrapped functions out whose result is nothing.

    Neurons are followed by values, and such a call has none. If it writes into what it gets, the
    graph is now wrong, and its part becomes opaque.
    """
    calls = []
    for node in graph_module.graph.nodes:
        if not node.users and is_wrapped_function(node):
            calls.append(node)
    if not calls:
        return
    run = _ResultKinds(graph_module)
    try:
        run_model(run.run, inputs)
    except Exception:  # noqa: BLE001 - a wrong graph may raise anything; ``disagreement`` tells
        return
    for node in calls:
        if node.name not in run.gives_tensors:
            graph_module.graph.erase_node(node)
    drop_unused(graph_module)


def _leave_out_empty_entries(graph_module: fx.GraphModule, expected: Any) -> None:
    """Take the entries out of a graph's output dict that the model's own output has not.

    They were found to be None: what an opaque part gave, of which the trace could not know it.
    """
    output_node = graph_module.graph.output_node()
    entries = output_node.args[0]
    if not isinstance(entries, dict) or not isinstance(expected, dict):
        return
    kept = {key: value for key, value in entries.items() if key in expected}
    if len(kept) < len(entries):
        output_node.args = (kept,)
        drop_unused(graph_module)


def disagreement(graph_module: nn.Module, inputs: tuple[Any, ...], expected: Any) -> str | None:
    """What is wrong with a graph.

    Args:
        graph_module: the graph.
        inputs: its positional arguments.
        expected: the output that it should give.

    Returns:
        A sentence; None if the graph gives that output.
    """
    try:
        output = run_model(graph_module, inputs)
    except Exception as error:  # noqa: BLE001 - a wrong graph may raise anything
        return f"its fx graph does not run: {first_line(error)}"
    return None if same_outputs(expected, output) else _DIFFERS


def _culprit(
    model: nn.Module, graph_module: fx.GraphModule, tracer: Tracer, inputs: tuple[Any, ...]
) -> str:
    """The first part to finish with another result than in the model, or where the graph fails.

    "" is the root.
    """
    expected = _results_by_call(model, inputs)
    recorder = _Recorder(graph_module)
    try:
        run_model(recorder.run, inputs)
    except Exception:  # noqa: BLE001 - a wrong graph may raise anything
        return _innermost_part(recorder.last)

    def value_of(node: Any) -> Any:
        return recorder.values.get(node.name) if isinstance(node, fx.Node) else node

    calls_seen: Counter[str] = Counter()
    for path, nodes in tracer.calls:
        result = tree_map(value_of, nodes)
        expected_result = expected.get((path, calls_seen[path]))
        calls_seen[path] += 1
        if same_outputs(expected_result, result):
            continue
        if not tracer.is_leaf_module(model.get_submodule(path), path):
            return path
    return ""


def _innermost_part(node: fx.Node | None) -> str:
    """The innermost part, no leaf, in which a node was traced."""
    if node is None:
        return ""
    innermost = ""
    # fx keeps the stack of modules in which a node was made, the root first.
    for path, _ in (node.meta.get("nn_module_stack") or {}).values():
        is_leaf = node.op == "call_module" and path == node.target
        if not is_leaf:
            innermost = path
    return innermost


def _results_by_call(model: nn.Module, inputs: tuple[Any, ...]) -> dict[tuple[str, int], Any]:
    """The result of every part at each of its calls: by path and number of the call."""
    results: dict[tuple[str, int], Any] = {}
    calls: Counter[str] = Counter()

    def record_at(path: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            results[path, calls[path]] = clone_tensors(output)
            calls[path] += 1

        return hook

    handles = []
    for path, module in model.named_modules():
        handles.append(module.register_forward_hook(record_at(path)))
    try:
        run_model(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return results


class _ResultKinds(Interpreter):
    """Runs a graph and notes which calls of functions give a tensor; values are not kept."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.gives_tensors: set[str] = set()

    @torch.no_grad()
    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_function" and isinstance(result, Tensor):
            self.gives_tensors.add(n.name)
        return result


class _Recorder(Interpreter):
    """Runs a graph, keeps the value of every node, and remembers which node ran last."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, Any] = {}
        self.last: fx.Node | None = None

    @torch.no_grad()
    def run_node(self, n: fx.Node) -> Any:
        self.last = n
        result = super().run_node(n)
        # A clone, since a later node may write into the result.
        self.values[n.name] = clone_tensors(result)
        return result
