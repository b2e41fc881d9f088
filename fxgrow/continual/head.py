"""Heads: the last layer of a classifier, of which every task has its own."""

import torch
from torch import fx, nn

from fxgrow.capture import Captured
from fxgrow.errors import GrowthError
from fxgrow.surgery import sync_size_attributes

HEAD_TYPES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def find_head(captured: Captured, head: str | None = None) -> str:
    """The path of the layer that gives the class scores: ``head`` itself, or what alone comes last in the graph.

    Raises ``GrowthError`` (``no-head``) if that is no layer whose rows are the classes.
    """
    modules = dict(captured.model.named_modules())
    last = [head] if head else _last(captured.graph_module)
    if len(last) == 1 and isinstance(modules.get(last[0]), HEAD_TYPES):
        return last[0]
    found = ", ".join(last) or "nothing"
    raise GrowthError(
        "no-head",
        f"{found} is no single linear layer or convolution that gives the class scores, so tasks cannot have heads of "
        "their own; name that layer with head=",
    )


def _last(graph_module: fx.GraphModule) -> list[str]:
    """The modules with parameters from which the output is reached through none other."""
    held = {
        path
        for path, module in graph_module.named_modules()
        if path and any(True for _ in module.parameters())
    }
    output = next(node for node in reversed(graph_module.graph.nodes) if node.op == "output")
    found: dict[str, None] = {}
    seen, waiting = set(), list(output.all_input_nodes)
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.op == "call_module" and node.target in held:
            found[str(node.target)] = None
        else:
            waiting += node.all_input_nodes
    return list(found)


@torch.no_grad()
def new_head(model: nn.Module, head: str, classes: int, generator: torch.Generator) -> None:
    """Give the layer ``head`` rows for ``classes`` classes, uniform in +-1 / sqrt(fan in) as torch draws them."""
    layer = model.get_submodule(head)
    for parameter in layer.parameters(recurse=False):
        bound = max(1, layer.weight[0].numel()) ** -0.5  # type: ignore[index]
        drawn = torch.rand(
            (classes, *parameter.shape[1:]), generator=generator, dtype=torch.float64
        )
        parameter.data = ((2 * drawn - 1) * bound).to(parameter)
        parameter.grad = None
    sync_size_attributes(layer)
