"""Layers whose weight or bias is computed of parameters, as products.

A weight norm computes the weight g v / |v| of parameters g and v. Candidates are rows of these, so
that what is emitted computes its weights as the model does. Weights are computed by
``torch.nn.utils.parametrize``, by the hooks of ``torch.nn.utils.weight_norm``, or in the graph
(``F.linear(x, self.weight * self.scale)``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.weight_norm import WeightNorm

from fxgrow.rewrite.linear_op import LinearForm, LinearOp, Parametrization
from fxgrow.surgery import weight_norm_hooks


@dataclass(frozen=True)
class TensorSource:
    """Where a weight or bias comes from.

    Args:
        tensor: its value.
        module: what computes it, when it is called without arguments; None if it is a parameter.
        nodes: the nodes of the graph that compute it.
    """

    tensor: Tensor
    module: nn.Module | None = None
    nodes: tuple[fx.Node, ...] = ()

    def row_parameters(self, axis: int) -> dict[str, Tensor]:
        """The tensors with one row per row of this one, by their path in the module.

        The path is "" for a weight or bias that is a parameter itself.

        Args:
            axis: that of the rows.
        """
        if self.module is None:
            return {"": self.tensor}
        rank, size = self.tensor.dim(), self.tensor.shape[axis]
        found = {}
        for path, tensor in (*self.module.named_parameters(), *self.module.named_buffers()):
            axis_there = axis if tensor.dim() == rank else 0
            if tensor.dim() in (1, rank) and tensor.shape[axis_there] == size:
                found[path] = tensor
        return found

    def buffers_of_its_shape(self, root: nn.Module) -> list[str]:
        """The names of the buffers of the model that this tensor is computed of, row by row."""
        tensors = dict(root.named_buffers())
        found = []
        for node in self.nodes:
            tensor = tensors.get(str(node.target)) if node.op == "get_attr" else None
            if tensor is not None and tensor.shape == self.tensor.shape:
                found.append(str(node.target))
        return found


def module_sources(module: Any) -> tuple[TensorSource, TensorSource | None]:
    """Where the weight and the bias (None: there is none) of a module come from."""
    weight = _module_source(module, "weight")
    bias = getattr(module, "bias", None)
    return weight, None if bias is None else _module_source(module, "bias")


def _module_source(module: Any, kind: str) -> TensorSource:
    source: nn.Module | None = None
    if kind in getattr(module, "parametrizations", {}):
        source = module.get_submodule(f"parametrizations.{kind}")
    for hook in weight_norm_hooks(module):
        if hook.name == kind:
            source = _NormalizedByHook(module, hook)
    return TensorSource(getattr(module, kind), source)


class _NormalizedByHook(nn.Module):
    """What the hook of ``torch.nn.utils.weight_norm`` computes: g v / |v|."""

    def __init__(self, module: nn.Module, hook: WeightNorm) -> None:
        super().__init__()
        self.g, self.v = getattr(module, f"{hook.name}_g"), getattr(module, f"{hook.name}_v")
        self.dim = hook.dim

    def forward(self) -> Tensor:
        return torch._weight_norm(self.v, self.g, self.dim)


def graph_source(root: nn.Module, node: Any) -> TensorSource | None:
    """Where a weight or bias comes from that a graph computes.

    Args:
        root: the module that the graph belongs to.
        node: what the graph applies.

    Returns:
        The source; None if no graph of operators computes it of parameters and buffers alone.
    """
    if not isinstance(node, fx.Node):
        return None
    nodes = _ancestors(node)
    reads = [one for one in nodes if one.op == "get_attr"]
    if any(one.op not in ("get_attr", "call_function", "call_method") for one in nodes):
        return None
    if not reads or node.op == "get_attr":
        return None
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for one in nodes:
        copies[one] = graph.node_copy(one, copies.__getitem__)
    graph.output(copies[node])
    module = _Formula(fx.GraphModule(root, graph))
    with torch.no_grad():
        computed = module()
    return TensorSource(computed, module, nodes) if isinstance(computed, Tensor) else None


class _Formula(nn.Module):
    """What a graph without inputs computes. Called itself, one that fails is printed by torch."""

    def __init__(self, graph_module: fx.GraphModule) -> None:
        super().__init__()
        self.graph_module = graph_module

    def forward(self) -> Any:
        return self.graph_module.forward()


def _ancestors(node: fx.Node) -> tuple[fx.Node, ...]:
    """A node and all that it depends on, in the order of the graph."""
    found = {node}
    stack = [node]
    while stack:
        for source in stack.pop().all_input_nodes:
            if source not in found:
                found.add(source)
                stack.append(source)
    return tuple(one for one in node.graph.nodes if one in found)


def computed_op(
    weight: TensorSource,
    bias: TensorSource | None,
    names: Mapping[int, str],
    form: LinearForm,
    swapped: bool,
) -> LinearOp | None:
    """A layer whose weight, bias or both are computed, as a product.

    Args:
        weight: where the weight comes from.
        bias: where the bias comes from; None if there is none.
        names: the name of every parameter, by its ``id``.
        form: how the weight is applied.
        swapped: see ``LinearOp``.

    Returns:
        The product; None if the weight has no parameter of its shape, if something that has rows is
        no parameter or not known by name, or if the rows are not computed one by one.
    """
    weight_parts = weight.row_parameters(int(swapped))
    bias_parts = {} if bias is None else bias.row_parameters(0)
    mains = [path for path, part in weight_parts.items() if part.shape == weight.tensor.shape]
    if not mains:
        return None
    # The weight first, and the bias last if it is a parameter itself.
    ordered = {("weight", mains[0]): weight_parts.pop(mains[0])}
    ordered |= {("weight", path): tensor for path, tensor in weight_parts.items()}
    ordered |= {("bias", path): tensor for path, tensor in bias_parts.items()}
    # Rows of a mask or another buffer are not learned: no candidate can say what new ones are.
    if not all(isinstance(tensor, nn.Parameter) for tensor in ordered.values()):
        return None
    found = [names.get(id(tensor)) for tensor in ordered.values()]
    known = [name for name in found if name is not None]
    if len(known) < len(found):
        return None
    own_bias = "" in bias_parts
    product = LinearOp(
        known[0],
        known[-1] if own_bias else None,
        form,
        int(swapped),
        int(not swapped),
        tuple(known[1:-1] if own_bias else known[1:]),
        _parametrization(weight, "weight", list(ordered)),
        None if bias is None else _parametrization(bias, "bias", list(ordered)),
    )
    return product if _is_row_by_row(product, list(ordered.values())) else None


def _parametrization(
    source: TensorSource, kind: str, ordered: Sequence[tuple[str, str]]
) -> Parametrization | None:
    """How a weight or bias is computed of the product's parameters; None if it is one itself."""
    if source.module is None:
        return None
    places = []
    for place, (owner, path) in enumerate(ordered):
        if owner == kind:
            places.append((path, place))
    return Parametrization(source.module, tuple(places))


@torch.no_grad()
def _is_row_by_row(product: LinearOp, tensors: Sequence[Tensor]) -> bool:
    """Whether twice as many rows give the same rows twice: no number of rows stands in the code."""
    once = [product.oriented(tensor) for tensor in tensors]
    twice = [torch.cat([tensor, tensor]) for tensor in once]
    try:
        found = product.weight_and_bias(twice)
    except Exception:  # noqa: BLE001 - whatever the model's own code raises
        return False
    for more, less in zip(found, product.weight_and_bias(once), strict=True):
        if more is None or less is None:
            continue
        expected = torch.cat([less, less])
        if more.shape != expected.shape or not torch.allclose(more, expected):
            return False
    return True
