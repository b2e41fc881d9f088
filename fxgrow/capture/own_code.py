"""The graph of one module's own code, in which its children stay calls."""

from typing import Any

from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from fxgrow.capture.hooks import has_hooks
from fxgrow.capture.inputs import argument_names
from fxgrow.capture.parts import first_line
from fxgrow.capture.running import preserve_state
from fxgrow.capture.trace import graph_of
from fxgrow.capture.tracer import Tracer
from fxgrow.errors import ModelError


class _OwnCodeTracer(Tracer):
    """Traces what a module computes itself; whole numbers among its arguments stay symbolic."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        arguments: list[Any] = [self.root]
        for name, value in zip(argument_names(self.root, self.inputs), self.inputs, strict=True):
            proxy = self.create_proxy("placeholder", name, (), {})
            arguments.append(proxy if is_symbolic(value) else value)
        return root_fn, arguments


def is_symbolic(value: Any) -> bool:
    """Whether an argument of a module may differ from call to call in a graph of its code.

    Args:
        value: the argument of one call.

    Returns:
        True for tensors, whole numbers (sizes of an image) and what holds any; False for flags and
        None, which decide what a module computes.
    """
    return any(isinstance(leaf, Tensor) or type(leaf) is int for leaf in tree_leaves(value))


def own_code_graph(module: nn.Module, inputs: tuple[Any, ...], *, training: bool) -> fx.GraphModule:
    """The graph of what a module's own code does, in one mode.

    Args:
        module: the module; its children are calls in the graph, whatever they are.
        inputs: the positional arguments of one call.
        training: the mode of the module and its children.

    Returns:
        The graph over the module's own children and parameters.

    Raises:
        ModelError: ``no-graph``, if torch.fx cannot trace the code, or has to keep a constant that
            the module does not hold.
    """
    kind = type(module).__name__
    if any(has_hooks(part) for part in module.modules()):
        raise ModelError("no-graph", f"{kind} has hooks, which a graph of its code leaves out")
    failure: Exception | None = None
    with preserve_state(module):
        module.train(training)
        for decide in (False, True):
            tracer = _OwnCodeTracer(module, inputs, {}, decide)
            try:
                graph_module = graph_of(module, tracer)
            except Exception as error:  # noqa: BLE001 - the user's forward meets symbolic values
                failure = error
                continue
            if tracer.opaque or not _holds_all(module, graph_module.graph):
                raise ModelError("no-graph", f"the graph of {kind} needs what it does not hold")
            return graph_module
    reason = first_line(failure) if failure is not None else ""
    raise ModelError("no-graph", f"{kind} cannot be traced: {reason}") from failure


def _holds_all(module: nn.Module, graph: fx.Graph) -> bool:
    """Whether a module has all that its graph takes from it; tracing may have made constants."""
    for node in graph.nodes:
        if node.op not in ("get_attr", "call_module"):
            continue
        holder: Any = module
        for name in str(node.target).split("."):
            if not hasattr(holder, name):
                return False
            holder = getattr(holder, name)
    return True
