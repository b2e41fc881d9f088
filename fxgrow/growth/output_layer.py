"""The layer that gives the class scores: the last one of a classifier."""

from torch import fx, nn

from fxgrow.capture import Captured
from fxgrow.errors import GrowthError

HEAD_TYPES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers that have a row of weights per class."""


def find_head(captured: Captured, head: str | None = None) -> str:
    """Find the layer that gives the class scores.

    Args:
        captured: the captured model.
        head: the path of that layer; None: the only layer with parameters that comes last.

    Returns:
        The path of the layer.

    Raises:
        GrowthError: ``no-head`` if that is no layer whose rows are the classes.
    """
    modules = dict(captured.model.named_modules())
    last = [head] if head else _last_modules(captured.graph_module)
    if len(last) == 1 and isinstance(modules.get(last[0]), HEAD_TYPES):
        return last[0]
    named = ", ".join(last) or "nothing"
    raise GrowthError(
        "no-head",
        f"{named} is no single linear layer or convolution that gives the class scores, "
        "so classes have no rows there; name that layer with head=",
    )


def _last_modules(graph_module: fx.GraphModule) -> list[str]:
    """The modules with parameters from which the output is reached without passing another one."""
    with_parameters: set[str] = set()
    for path, module in graph_module.named_modules():
        has_parameters = next(module.parameters(), None) is not None
        if path and has_parameters:
            with_parameters.add(path)
    output = next(node for node in reversed(graph_module.graph.nodes) if node.op == "output")
    last: dict[str, None] = {}  # a set that keeps its order
    seen: set[fx.Node] = set()
    waiting = list(output.all_input_nodes)
    # Backwards from the output; a module with parameters ends the search along its path.
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.op == "call_module" and node.target in with_parameters:
            last[str(node.target)] = None
        else:
            waiting += node.all_input_nodes
    return list(last)
