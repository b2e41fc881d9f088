"""What a node computes, if it applies a parameter to an input: modules, functions and ATen operators alike."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from fxgrow.rewrite.linear_op import LinearForm, LinearOp
from fxgrow.rewrite.operators import LINEAR_FUNCTIONS, LINEAR_MODULES, TRANSPOSES, LinearCall


@dataclass(frozen=True)
class LinearUse:
    """A node as a product. ``sources``: the nodes that lead from the parameters to it."""

    product: LinearOp
    input: fx.Node
    sources: frozenset[fx.Node] = frozenset()


def match_linear(root: nn.Module, node: fx.Node, names: dict[int, str]) -> LinearUse | None:
    """The node as a product of an input and a weight, or None. ``names[id(tensor)]``: the name of a parameter."""
    return (
        _of_module(root, node, names) if node.op == "call_module" else _of_call(root, node, names)
    )


def _of_module(root: nn.Module, node: fx.Node, names: dict[int, str]) -> LinearUse | None:
    module = root.get_submodule(str(node.target))
    if (
        type(module) not in LINEAR_MODULES
        or len(node.args) != 1
        or node.kwargs
        or not isinstance(node.args[0], fx.Node)
    ):
        return None
    if getattr(module, "max_norm", None) is not None:  # it rewrites the table as it reads it
        return None
    form, swapped = LINEAR_MODULES[type(module)]
    tensors = [
        tensor for tensor in (module.weight, getattr(module, "bias", None)) if tensor is not None
    ]
    product = _product([names.get(id(tensor)) for tensor in tensors], form(module), swapped)
    return None if product is None else LinearUse(product, node.args[0])


def _of_call(root: nn.Module, node: fx.Node, names: dict[int, str]) -> LinearUse | None:
    call = _bound(node)
    if call is None or not isinstance(call.input, fx.Node):
        return None
    weight = _parameter(root, call.weight)
    bias = _parameter(root, call.bias) if call.bias is not None else []
    if (
        weight is None
        or bias is None
        or not {call.input, call.weight, call.bias}.issuperset(node.all_input_nodes)
    ):
        return None
    tensors = [attribute_at(root, str(one.target)) for one in (weight[-1], *bias)]
    if tensors[0].dim() < 2 or any(tensor.dim() != 1 for tensor in tensors[1:]):
        return None
    swapped = call.swapped ^ (len(weight) % 2 == 0)  # by every transposition on the way
    product = _product([names.get(id(tensor)) for tensor in tensors], call.form, swapped)
    return None if product is None else LinearUse(product, call.input, frozenset((*weight, *bias)))


def _product(names: Sequence[str | None], form: LinearForm, swapped: bool) -> LinearOp | None:
    """A product of parameters, the weight's name first; None if one is no parameter of the model (it is computed)."""
    known = [name for name in names if name is not None]
    if len(known) < len(names) or (swapped and form.groups > 1):
        return None
    return LinearOp(known[0], known[1] if len(known) > 1 else None, form, swapped)


def _bound(node: fx.Node) -> LinearCall | None:
    """The call's arguments by their meaning; None if it is of no known kind or has arguments that the kind ignores."""
    function = (
        LINEAR_FUNCTIONS.get(node.target) if node.op in ("call_function", "call_method") else None
    )
    if function is None:
        return None
    try:
        inspect.signature(function).bind(*node.args, **node.kwargs)
    except TypeError:
        return None
    return function(*node.args, **node.kwargs)


def _parameter(root: nn.Module, node: Any) -> list[fx.Node] | None:
    """The transpositions between a call and its parameter, and that parameter's node; None if there is none."""
    chain = []
    while isinstance(node, fx.Node) and node.op != "get_attr" and _transposes(node):
        chain.append(node)
        node = node.args[0]
    tensor = (
        attribute_at(root, str(node.target))
        if isinstance(node, fx.Node) and node.op == "get_attr"
        else None
    )
    return (
        [*chain, node] if isinstance(tensor, Tensor) and (not chain or tensor.dim() == 2) else None
    )


def _transposes(node: fx.Node) -> bool:
    if node.target is getattr:
        return node.args[1] in ("T", "mT")
    return node.target in TRANSPOSES and _axes(node.args[1:]) in ([], [0, 1]) and not node.kwargs


def _axes(rest: Sequence[Any]) -> list[int]:
    """The axes that a transposition names, ascending; those of a permutation that changes nothing are no such."""
    listed = rest[0] if rest and isinstance(rest[0], (list, tuple)) else None
    if listed is not None and list(listed) != [1, 0]:
        return [-1]
    return sorted(axis % 2 for axis in (listed or rest))


def attribute_at(root: nn.Module, path: str) -> Any:
    """What lies at a path of attributes."""
    found: Any = root
    for part in path.split("."):
        found = getattr(found, part)
    return found
