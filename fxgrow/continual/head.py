"""Heads: the last layer of a classifier, of which every task has its own."""

import torch
from torch import fx, nn

from fxgrow.capture import Captured
from fxgrow.errors import GrowthError
from fxgrow.surgery import sync_size_attributes

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
        "so tasks cannot have heads of their own; name that layer with head=",
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


@torch.no_grad()
def new_head(model: nn.Module, head: str, classes: int, generator: torch.Generator) -> None:
    """Draw a head for so many classes, in place.

    Weights and bias are uniform in +-1 / sqrt(fan-in), as torch initializes these layers.

    Args:
        model: the network.
        head: the path of its head.
        classes: how many rows the head gets.
        generator: draws the weights.
    """
    layer = model.get_submodule(head)
    for parameter in layer.parameters(recurse=False):
        fan_in = max(1, layer.weight[0].numel())  # type: ignore[index]
        bound = fan_in**-0.5
        shape = (classes, *parameter.shape[1:])
        # In float64, so that the same seed gives the same head in every dtype.
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
        parameter.data = ((2 * uniform - 1) * bound).to(parameter)
        parameter.grad = None
    sync_size_attributes(layer)
