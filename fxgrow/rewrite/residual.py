"""Residual identity layers as candidates: x becomes x + h(x) at the edges of a graph (Wu et al. 2020, section 2.3).

    h_l(x) = sum_i eps_li sigma(x, delta_li)

A candidate layer is inserted as ordinary modules *before* the model is coupled, with ``BLANK`` hidden neurons of weight
zero, so that h = 0. Its real neurons are then the new-neuron candidates of its hidden width: they are relaxed, scored,
selected and emitted as those of any other width, beside the growth of the widths that the layer reads and writes. After
selection the blank neurons are dropped, and layers without neurons are erased. Any graph with edges will do, that of a
cell too.
"""

import copy
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from fxgrow.capture import Captured
from fxgrow.coupling import Coupling, NodeShape
from fxgrow.errors import GrowthError
from fxgrow.rewrite.rewriter import Provenance

LAYER_NAMESPACE = "grown_layers"
BLANK_NEURONS = 2
"""Hidden neurons of weight zero; with one alone a depthwise convolution could not be told from an ordinary one."""

aten = torch.ops.aten


class LayerForm(StrEnum):
    """How the neurons of a candidate layer compute."""

    CONVOLUTION = "convolution"
    DEPTHWISE = "depthwise"
    TOKEN = "token"


@dataclass(frozen=True)
class DepthProposal:
    """Which candidate layers there are.

    ``neurons``: candidates per layer; ``at``: patterns of node names or module paths (none: after every activation and
    residual sum); ``form``: None chooses as the model itself does; ``norm``: a batch norm inside h.
    """

    neurons: int
    at: tuple[str, ...] = ()
    form: LayerForm | None = None
    norm: bool = False


@dataclass(frozen=True)
class InsertionPoint:
    """A node whose value [batch, ...] has ``channels`` neurons along ``dim``."""

    node: str
    form: LayerForm
    channels: int
    rank: int


@dataclass(frozen=True)
class IdentityLayer:
    """An inserted layer: where its modules are, the node it follows, the node that is the sum, and what is inside."""

    path: str
    after: str
    sum: str
    form: LayerForm
    norm: bool

    @property
    def width(self) -> str:
        """The name that coupling gives to its hidden width."""
        return f"{self.path}.incoming"


CONVOLUTIONS = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
_BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}

LayerParts = dict[str, nn.Module]


def _convolution(edge: InsertionPoint) -> LayerParts:
    """A 3 x 3 kernel in, a 1 x 1 kernel out."""
    kind = CONVOLUTIONS[edge.rank]
    incoming = kind(edge.channels, BLANK_NEURONS, 3, padding=1)
    return {
        "incoming": incoming,
        "activation": nn.ReLU(),
        "outgoing": kind(BLANK_NEURONS, edge.channels, 1, bias=False),
    }


def _depthwise(edge: InsertionPoint) -> LayerParts:
    """A 1 x 1 kernel in, a 3 x 3 kernel per neuron, a 1 x 1 kernel out."""
    kind = CONVOLUTIONS[edge.rank]
    spatial = kind(BLANK_NEURONS, BLANK_NEURONS, 3, padding=1, groups=BLANK_NEURONS, bias=False)
    outgoing = kind(BLANK_NEURONS, edge.channels, 1, bias=False)
    incoming = kind(edge.channels, BLANK_NEURONS, 1)
    return {"incoming": incoming, "spatial": spatial, "activation": nn.ReLU(), "outgoing": outgoing}


def _token(edge: InsertionPoint) -> LayerParts:
    """Linear in, linear out, at every position by itself."""
    outgoing = nn.Linear(BLANK_NEURONS, edge.channels, bias=False)
    return {
        "incoming": nn.Linear(edge.channels, BLANK_NEURONS),
        "activation": nn.GELU(),
        "outgoing": outgoing,
    }


LAYER_FORMS: dict[LayerForm, Callable[[InsertionPoint], LayerParts]] = {
    LayerForm.CONVOLUTION: _convolution,
    LayerForm.DEPTHWISE: _depthwise,
    LayerForm.TOKEN: _token,
}

ACTIVATIONS = (
    nn.ReLU,
    nn.ReLU6,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.LeakyReLU,
    nn.ELU,
    nn.Mish,
    nn.Tanh,
    nn.Softplus,
)
_ATEN = "relu relu_ gelu silu silu_ hardswish hardswish_ elu tanh"
_TORCH = [
    F.relu,
    F.relu6,
    F.gelu,
    F.silu,
    F.hardswish,
    F.leaky_relu,
    F.elu,
    F.mish,
    F.tanh,
    torch.relu,
    torch.tanh,
]
_ACTIVATION_FUNCTIONS = frozenset(
    [*_TORCH, *(getattr(aten, name).default for name in _ATEN.split())]
)
_ACTIVATION_METHODS = ("relu", "relu_", "tanh")
SUMS = frozenset(
    [operator.add, operator.iadd, torch.add, "add", "add_", aten.add.Tensor, aten.add_.Tensor]
)


def insertion_points(
    captured: Captured, coupling: Coupling, depth: DepthProposal
) -> tuple[InsertionPoint, ...]:
    """The edges at which candidate layers fit. Raises ``GrowthError`` if there is none (or none that ``at`` names)."""
    nodes = [node for node in captured.graph_module.graph.nodes if node.name in coupling.shapes]
    named = [
        node
        for node in nodes
        if any(fnmatchcase(name, p) for p in depth.at for name in (node.name, str(node.target)))
    ]
    wanted = (
        named
        if depth.at
        else [node for node in nodes if _closes_a_block(captured.graph_module, node, coupling)]
    )
    edges = [
        _edge(captured.graph_module, node, coupling.shapes[node.name], depth.form)
        for node in wanted
    ]
    found = tuple(edge for edge in edges if edge is not None)
    if not found:
        where = f" that fits {', '.join(depth.at)}" if depth.at else ""
        raise GrowthError(
            "no-edges", f"no edge of the graph{where} can take a residual layer; leave layers out"
        )
    return found


def _is_activation(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(graph_module.get_submodule(str(node.target)), ACTIVATIONS)
    return node.target in _ACTIVATION_FUNCTIONS or (
        node.op == "call_method" and node.target in _ACTIVATION_METHODS
    )


def _closes_a_block(graph_module: fx.GraphModule, node: fx.Node, coupling: Coupling) -> bool:
    """Whether a node is an activation, or a sum of two values of one shape that goes elsewhere than into one."""
    if _is_activation(graph_module, node):
        return True
    shapes = [coupling.shapes.get(source.name) for source in node.all_input_nodes]
    if (
        node.target not in SUMS
        or len(shapes) != 2
        or None in shapes
        or any(s.op == "get_attr" for s in node.all_input_nodes)
    ):
        return False
    alone = all(_is_activation(graph_module, user) for user in node.users)
    return len({shape.size for shape in shapes if shape}) == 1 and not alone


def _edge(
    graph_module: fx.GraphModule, node: fx.Node, shape: NodeShape, form: LayerForm | None
) -> InsertionPoint | None:
    """The edge after a node; None if its value has no one axis of neurons that a form can read."""
    rank = len(shape.size)
    dims = (
        shape.dims - {1} if rank == 3 and 2 in shape.dims else shape.dims
    )  # a table of positions labels tokens too
    if len(dims) != 1 or rank < 2 or not node.users:
        return None
    (dim,) = dims
    if dim == rank - 1:
        return (
            InsertionPoint(node.name, LayerForm.TOKEN, shape.size[dim], rank)
            if form in (None, LayerForm.TOKEN)
            else None
        )
    if dim != 1 or rank not in CONVOLUTIONS or form is LayerForm.TOKEN or max(shape.size[2:]) < 2:
        return None
    return InsertionPoint(node.name, form or _usual(graph_module), shape.size[1], rank)


def _usual(graph_module: fx.GraphModule) -> LayerForm:
    """Depthwise in a model that has depthwise convolutions."""
    layers = (
        module
        for module in graph_module.modules()
        if isinstance(module, tuple(CONVOLUTIONS.values()))
    )
    depthwise = any(layer.groups == layer.in_channels and layer.groups != 1 for layer in layers)
    return LayerForm.DEPTHWISE if depthwise else LayerForm.CONVOLUTION


def insert_layers(
    captured: Captured, edges: Iterable[InsertionPoint], norm: bool
) -> tuple[Captured, tuple[IdentityLayer, ...]]:
    """The same model, as a graph module of the same modules, with a candidate layer at every edge. h = 0."""
    old = captured.graph_module
    module = fx.GraphModule(old, copy.deepcopy(old.graph), type(old).__name__)
    module.train(captured.model.training)
    layers = tuple(_insert(module, edge, norm) for edge in edges)
    module.graph.lint()
    module.recompile()
    return Captured(module, module, captured.example_inputs, captured.report), layers


def _insert(module: fx.GraphModule, edge: InsertionPoint, norm: bool) -> IdentityLayer:
    like = next(parameter for parameter in module.parameters() if parameter.is_floating_point())
    node = next(one for one in module.graph.nodes if one.name == edge.node)
    path = _free(module, f"{LAYER_NAMESPACE}.{edge.node}")
    parts = LAYER_FORMS[edge.form](edge)
    if norm and (
        edge.form is not LayerForm.TOKEN or edge.rank == 2
    ):  # a batch norm does not run over tokens
        parts = {
            "incoming": parts.pop("incoming"),
            "norm": _BATCH_NORMS[edge.rank](BLANK_NEURONS),
            **parts,
        }
    mark, value, inserted = Provenance("identity-layer", path), node, set()
    for name, part in parts.items():
        module.add_submodule(f"{path}.{name}", _blank(part).to(like).train(module.training))
        with module.graph.inserting_after(value):
            value = module.graph.call_module(f"{path}.{name}", (value,))
        value.meta["fxgrow"] = mark
        inserted.add(value)
    with module.graph.inserting_after(value):
        total = module.graph.call_function(operator.add, (node, value))
    total.meta["fxgrow"] = mark
    node.replace_all_uses_with(total, delete_user_cb=lambda user: user not in {*inserted, total})
    return IdentityLayer(path, edge.node, total.name, edge.form, "norm" in parts)


def _blank(part: nn.Module) -> nn.Module:
    """No weight, and no gradient while candidates are searched."""
    if not isinstance(part, tuple(_BATCH_NORMS.values())):
        for parameter in part.parameters():
            nn.init.zeros_(parameter)
    return part.requires_grad_(requires_grad=False)


def _free(module: fx.GraphModule, path: str) -> str:
    known = {name for name, _ in module.named_modules()}
    found, number = path, 1
    while found in known:
        found, number = f"{path}_{number}", number + 1
    return found


def remove_layers(module: fx.GraphModule, layers: Iterable[IdentityLayer]) -> None:
    """Take candidate layers out again."""
    nodes = {node.name: node for node in module.graph.nodes}
    for layer in layers:
        total = nodes[layer.sum]
        source, value = total.args
        total.replace_all_uses_with(_node(source))
        for node in [total, *_back(_node(value), _node(source))]:
            module.graph.erase_node(node)
        module.delete_submodule(layer.path)
    if not any(True for _ in module.get_submodule(LAYER_NAMESPACE).children()):
        module.delete_submodule(LAYER_NAMESPACE)
    module.graph.lint()
    module.recompile()


def _back(value: fx.Node, source: fx.Node) -> list[fx.Node]:
    found = []
    while value is not source:
        found.append(value)
        value = value.all_input_nodes[0]
    return found


def _node(value: Any) -> fx.Node:
    return value  # type: ignore[no-any-return]
