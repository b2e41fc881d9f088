"""Outputs that hold objects which torch.export does not know (caches): taken apart, put together.

The model is exported with a flat list of the tensors of its output. Nodes of the graph then rebuild
what the model itself gives.
"""

import copy
from collections.abc import Iterator
from functools import wraps
from typing import Any

from torch import Tensor, fx, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map

from fxgrow.capture.tracer import rebuild_output

_MAX_DEPTH = 8
"""How deep objects in an output may hold others: one that holds itself has no end."""


def with_flat_output(model: nn.Module) -> nn.Module:
    """A shallow copy of a model, over the same parameters, that gives a list of tensors.

    Args:
        model: the model.

    Returns:
        The copy; its forward takes the same arguments.
    """
    flat = copy.copy(model)
    forward = model.forward

    @wraps(forward)
    def flat_forward(*args: Any, **kwargs: Any) -> list[Tensor]:
        return list(_tensors(forward(*args, **kwargs)))

    flat.forward = flat_forward
    return flat


def _tensors(output: Any, depth: int = 0) -> Iterator[Tensor]:
    """All tensors of an output, those in attributes of objects included."""
    for leaf in tree_leaves(output):
        if isinstance(leaf, Tensor):
            yield leaf
        elif _is_object(leaf) and depth < _MAX_DEPTH:
            yield from _tensors(vars(leaf), depth + 1)


def _is_object(leaf: Any) -> bool:
    """Whether a leaf is to be taken apart."""
    return hasattr(leaf, "__dict__") and not callable(leaf)


def rebuild_outputs(graph_module: fx.GraphModule, expected: Any) -> None:
    """Let a graph with a flat output give what the model gives.

    Args:
        graph_module: the graph of a model ``with_flat_output``, changed in place.
        expected: an output of the model itself.

    Raises:
        ValueError: if the flat output does not fit the model's.
    """
    graph = graph_module.graph
    output = graph.output_node()
    flat = [node for node in tree_leaves(output.args[0]) if isinstance(node, fx.Node)]
    if len(flat) != len(list(_tensors(expected))):
        raise ValueError("the model gave another number of tensors when it was exported")
    nodes = iter(flat)

    def rebuilt(leaf: Any, depth: int = 0) -> Any:
        if isinstance(leaf, Tensor):
            return next(nodes)
        if not _is_object(leaf) or depth >= _MAX_DEPTH:
            return leaf
        kind = f"{type(leaf).__module__}:{type(leaf).__qualname__}"
        attributes = tree_map(lambda inner: rebuilt(inner, depth + 1), vars(leaf))
        return graph.call_function(rebuild_output, (kind, attributes))

    leaves, spec = tree_flatten(expected)
    with graph.inserting_before(output):
        output.args = ([rebuilt(leaf) for leaf in leaves],)
    codegen: Any = copy.copy(graph._codegen)
    codegen.pytree_info = codegen.pytree_info._replace(out_spec=spec)
    graph.set_codegen(codegen)
    graph.lint()
    graph_module.recompile()
