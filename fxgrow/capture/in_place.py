"""Nodes of an fx graph that write into a tensor."""

import operator
from types import FunctionType

from torch import fx

_IN_PLACE_OPERATORS = {
    name for name in dir(operator) if name.startswith("i") and name[1:] in dir(operator)
}
"""The functions of ``operator`` such as ``iadd``: "i" and the name of another one."""


def writes_in_place(node: fx.Node, graph_module: fx.GraphModule) -> bool:
    """Whether a node writes into a tensor that there was before.

    Args:
        node: the node.
        graph_module: the module of its graph.
    """
    if node.op == "call_module":
        return bool(getattr(graph_module.get_submodule(str(node.target)), "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if name in {"setitem", "__setitem__"}:
        return True
    # torch's convention: relu_ works in place. Of an operator of ATen the overload follows.
    if name.partition(".")[0].endswith("_") and not name.endswith("__"):
        return True
    if node.op == "call_function" and name in _IN_PLACE_OPERATORS:
        return True
    if is_wrapped_function(node) and not node.users:
        return True  # what else would it be called for?
    return bool(node.kwargs.get("inplace"))


def is_wrapped_function(node: fx.Node) -> bool:
    """Whether a node calls a function of the user's, or of a library's, as a whole.

    That is what ``torch.fx.wrap`` asks for. It may write into what it gets (torchvision's
    ``_add_shortcut``), and nothing tells whether it does.

    Args:
        node: the node.
    """
    if node.op != "call_function" or not isinstance(node.target, FunctionType):
        return False
    package = (node.target.__module__ or "").partition(".")[0]
    return package not in {"torch", "fxgrow"}
