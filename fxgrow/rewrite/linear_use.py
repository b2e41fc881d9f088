"""What a node computes, if it applies a parameter to an input: modules, functions, operators."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from fxgrow.rewrite.linear_op import LinearForm, LinearOp
from fxgrow.rewrite.operators import (
    LINEAR_FUNCTIONS,
    LINEAR_MODULES,
    MODULE_CALLS,
    NAMED_FUNCTIONS,
    TRANSPOSES,
    LinearCall,
)
from fxgrow.rewrite.parametrized import TensorSource, computed_op, graph_source, module_sources
from fxgrow.surgery import weight_norm_hooks


@dataclass(frozen=True)
class LinearUse:
    """A node as a product.

    Args:
        product: the weight and how it is applied.
        input: the node that it is applied to.
        sources: the nodes that lead from the parameters to the product.
        more: other values that the form takes, nodes among them, which carry no neurons.
    """

    product: LinearOp
    input: fx.Node
    sources: frozenset[fx.Node] = frozenset()
    more: tuple[Any, ...] = ()


def match_linear(root: nn.Module, node: fx.Node, names: Mapping[int, str]) -> LinearUse | None:
    """The node as a product of an input and a weight.

    Args:
        root: the module that the node's graph belongs to.
        node: any node.
        names: ``names[id(tensor)]`` is the name of a parameter.

    Returns:
        The product, or None if the node is none of a known kind.
    """
    if node.op == "call_module":
        return _match_module(root, node, names)
    return _match_call(root, node, names)


def _match_module(root: nn.Module, node: fx.Node, names: Mapping[int, str]) -> LinearUse | None:
    module = root.get_submodule(str(node.target))
    call = _module_call(module, node)
    if call is None or not isinstance(call.input, fx.Node):
        return None
    if parametrize.is_parametrized(module) or weight_norm_hooks(module):
        product = computed_op(*module_sources(module), names, call.form, call.swapped)
    else:
        parameter_names = [names.get(id(module.weight))]
        bias = getattr(module, "bias", None)
        if bias is not None:
            parameter_names.append(names.get(id(bias)))
        product = _linear_op(parameter_names, call.form, call.swapped)
    return None if product is None else LinearUse(product, call.input, more=call.more)


def _module_call(module: nn.Module, node: fx.Node) -> LinearCall | None:
    """The arguments of a module's call by their meaning; None if the module is of no known kind."""
    kind = parametrize.type_before_parametrizations(module)
    if kind in LINEAR_MODULES:
        if len(node.args) != 1 or node.kwargs or getattr(module, "max_norm", None) is not None:
            return None  # with a largest norm a table is rewritten as it is read
        make_form, swapped = LINEAR_MODULES[kind]
        return LinearCall(node.args[0], None, None, make_form(module), swapped)
    make_call = MODULE_CALLS.get(f"{kind.__module__}.{kind.__qualname__}")
    return None if make_call is None else make_call(module)(*node.args, **node.kwargs)


def _match_call(root: nn.Module, node: fx.Node, names: Mapping[int, str]) -> LinearUse | None:
    call = _linear_call(node)
    if call is None or not isinstance(call.input, fx.Node):
        return None
    if not {call.input, call.weight, call.bias, *call.more}.issuperset(node.all_input_nodes):
        return None  # a setting (a stride, say) is computed in the graph
    return _match_parameters(root, call, names) or _match_computed(root, call, names)


def _match_parameters(
    root: nn.Module, call: LinearCall, names: Mapping[int, str]
) -> LinearUse | None:
    """A call that applies parameters, transposed or not."""
    weight_path = _path_to_parameter(root, call.weight)
    bias_path = [] if call.bias is None else _path_to_parameter(root, call.bias)
    if weight_path is None or bias_path is None:
        return None
    tensors = []
    for source in (weight_path[-1], *bias_path):
        tensors.append(attribute_at(root, str(source.target)))
    weight, *biases = tensors
    if not _fits(call.form, weight, biases):
        return None
    transpositions = len(weight_path) - 1
    swapped = call.swapped ^ (transpositions % 2 == 1)
    parameter_names = [names.get(id(tensor)) for tensor in tensors]
    product = _linear_op(parameter_names, call.form, swapped)
    if product is None:
        return None
    return LinearUse(product, call.input, frozenset((*weight_path, *bias_path)), call.more)


def _match_computed(
    root: nn.Module, call: LinearCall, names: Mapping[int, str]
) -> LinearUse | None:
    """A call that applies what the graph computes of parameters."""
    sources: list[TensorSource] = []
    for argument in (call.weight, call.bias):
        if argument is not None:
            path = _path_to_parameter(root, argument)
            if path is not None and len(path) == 1:
                parameter = attribute_at(root, str(path[0].target))
                source: TensorSource | None = TensorSource(parameter, nodes=(path[0],))
            else:
                source = graph_source(root, argument)
            if source is None:
                return None
            sources.append(source)
    weight, *biases = sources
    if not _fits(call.form, weight.tensor, [source.tensor for source in biases]):
        return None
    bias = biases[0] if biases else None
    product = computed_op(weight, bias, names, call.form, call.swapped)
    if product is None:
        return None
    nodes = frozenset(node for source in sources for node in source.nodes)
    return LinearUse(product, call.input, nodes, call.more)


def _fits(form: LinearForm, weight: Tensor, biases: Sequence[Tensor]) -> bool:
    """Whether a weight and bias have the axes that a form knows. A batch of matrices is none."""
    applies_matrix = form.row_dim == -1
    if weight.dim() < 2 or (applies_matrix and weight.dim() > 2):
        return False
    return all(bias.dim() == 1 for bias in biases)


def _linear_op(names: Sequence[str | None], form: LinearForm, swapped: bool) -> LinearOp | None:
    """A product of parameters, the weight's name first; None if one of them has no name.

    Such a tensor is no parameter of the model: it is computed.
    """
    weight, *rest = names
    bias = rest[0] if rest else None
    if weight is None or (rest and bias is None):
        return None
    return LinearOp(weight, bias, form, rows=int(swapped), columns=int(not swapped))


def _linear_call(node: fx.Node) -> LinearCall | None:
    """The call's arguments by their meaning.

    None if the call is of no known kind, or has arguments that the kind does not know.
    """
    if node.op not in ("call_function", "call_method"):
        return None
    name = f"{getattr(node.target, '__module__', '')}.{getattr(node.target, '__name__', '')}"
    function = LINEAR_FUNCTIONS.get(node.target) or NAMED_FUNCTIONS.get(name)
    if function is None:
        return None
    try:
        inspect.signature(function).bind(*node.args, **node.kwargs)
    except TypeError:
        return None
    return function(*node.args, **node.kwargs)


def _path_to_parameter(root: nn.Module, node: Any) -> list[fx.Node] | None:
    """The transpositions between a call and its parameter, then that parameter's own node.

    None if something else than a parameter or buffer is at the end.
    """
    path = []
    while isinstance(node, fx.Node) and node.op != "get_attr" and _swaps_axes(node):
        path.append(node)
        node = node.args[0]
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    tensor = attribute_at(root, str(node.target))
    if not isinstance(tensor, Tensor):
        return None
    if path and tensor.dim() != 2:  # axes are only told apart for matrices
        return None
    return [*path, node]


def _swaps_axes(node: fx.Node) -> bool:
    """Whether a node transposes a matrix."""
    if node.target is getattr:
        return node.args[1] in ("T", "mT")
    if node.target not in TRANSPOSES or node.kwargs:
        return False
    return _named_axes(node.args[1:]) in ([], [0, 1])


def _named_axes(arguments: Sequence[Any]) -> list[int]:
    """The axes that a transposition names, ascending: ``[0, 1]`` for ``(-1, 0)``.

    A permutation (a list of axes) that changes nothing gives ``[-1]``, which is no transposition.
    """
    permutation = arguments[0] if arguments and isinstance(arguments[0], (list, tuple)) else None
    if permutation is not None and list(permutation) != [1, 0]:
        return [-1]
    return sorted(axis % 2 for axis in (permutation or arguments))


def attribute_at(root: nn.Module, path: str) -> Any:
    """The object at a dotted path of attributes.

    Args:
        root: where the path starts.
        path: names with dots between them.

    Returns:
        A module, parameter, buffer or any other attribute.
    """
    value: Any = root
    for name in path.split("."):
        value = getattr(value, name)
    return value
