"""Residual identity layers as candidates: x becomes x + h(x) at edges of a graph.

    h_l(x) = sum_i eps_li sigma(x, delta_li)

Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020, section 2.3.

How we differ: a candidate layer is inserted as ordinary modules *before* the model is coupled, with
``BLANK_NEURONS`` hidden neurons of weight zero, so that h = 0. Its real neurons are then the
new-neuron candidates of its hidden width: they are relaxed, scored, selected and emitted as those
of any other width, beside the growth of the widths that the layer reads and writes. After selection
the blank neurons are dropped, and layers without neurons are removed. Any graph with edges will do,
that of a cell too.
"""

import copy
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import cast

import torch
from torch import fx, nn
from torch.nn import functional as F

from fxgrow.capture import Captured
from fxgrow.coupling import Coupling, NodeShape
from fxgrow.errors import GrowthError
from fxgrow.rewrite.rewriter import Provenance

LAYER_NAMESPACE = "grown_layers"
"""The module that holds all inserted layers."""

BLANK_NEURONS = 2
"""Hidden neurons of weight zero.

With one alone a depthwise convolution could not be told from an ordinary one.
"""

aten = torch.ops.aten


class LayerForm(StrEnum):
    """How the neurons of a candidate layer compute. ``LAYER_FORMS`` has a row for each."""

    CONVOLUTION = "convolution"
    DEPTHWISE = "depthwise"
    TOKEN = "token"


@dataclass(frozen=True)
class DepthProposal:
    """Which candidate layers there are.

    Args:
        neurons: candidates per layer; None: as many as the value has that the layer reads.
        at: patterns of node names or module paths; without any, layers follow every activation and
            every residual sum.
        form: how the neurons compute; None chooses as the model itself does.
        norm: put a batch norm inside h.
        most: how many layers may get neurons, whatever the budget allows; None: any number.
    """

    neurons: int | None
    at: tuple[str, ...] = ()
    form: LayerForm | None = None
    norm: bool = False
    most: int | None = None


@dataclass(frozen=True)
class InsertionPoint:
    """A node that a candidate layer can follow.

    Args:
        node: the name of the node.
        form: the form of the layer.
        channels: how many neurons the node's value has.
        rank: the number of dimensions of that value, ``[batch, ...]``.
    """

    node: str
    form: LayerForm
    channels: int
    rank: int


@dataclass(frozen=True)
class IdentityLayer:
    """An inserted layer.

    Args:
        path: where its modules are.
        after: the node that it follows.
        sum: the node that is x + h(x).
        form: how its neurons compute.
        norm: whether there is a batch norm inside.
    """

    path: str
    after: str
    sum: str
    form: LayerForm
    norm: bool

    @property
    def width(self) -> str:
        """The name that coupling gives to its hidden width."""
        return f"{self.path}.incoming"


_CONVOLUTIONS = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
_BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
"""By the rank of the value: [batch, channels, ...]."""

LayerParts = dict[str, nn.Module]
"""The modules of a layer, called one after the other; the first is ``incoming``."""


def _convolution(point: InsertionPoint) -> LayerParts:
    """A 3 x 3 kernel in, a 1 x 1 kernel out."""
    kind = _CONVOLUTIONS[point.rank]
    return {
        "incoming": kind(point.channels, BLANK_NEURONS, 3, padding=1),
        "activation": nn.ReLU(),
        "outgoing": kind(BLANK_NEURONS, point.channels, 1, bias=False),
    }


def _depthwise(point: InsertionPoint) -> LayerParts:
    """A 1 x 1 kernel in, a 3 x 3 kernel per neuron, a 1 x 1 kernel out."""
    kind = _CONVOLUTIONS[point.rank]
    # Each module draws its initial weights; this order of draws is what old seeds reproduce.
    spatial = kind(BLANK_NEURONS, BLANK_NEURONS, 3, padding=1, groups=BLANK_NEURONS, bias=False)
    outgoing = kind(BLANK_NEURONS, point.channels, 1, bias=False)
    incoming = kind(point.channels, BLANK_NEURONS, 1)
    return {"incoming": incoming, "spatial": spatial, "activation": nn.ReLU(), "outgoing": outgoing}


def _token(point: InsertionPoint) -> LayerParts:
    """Linear in, linear out, at every position by itself."""
    outgoing = nn.Linear(BLANK_NEURONS, point.channels, bias=False)
    return {
        "incoming": nn.Linear(point.channels, BLANK_NEURONS),
        "activation": nn.GELU(),
        "outgoing": outgoing,
    }


@dataclass(frozen=True)
class FormRow:
    """What a layer form is made of, and which values it fits.

    Args:
        build: the modules of h for an insertion point, with ``BLANK_NEURONS`` hidden neurons.
            Their weights are set to zero afterwards.
        channels_last: the layer reads neurons along the last dimension, of a value
            ``[batch, ..., channels]``, else along dimension 1, of ``[batch, channels, ...]``.
    """

    build: Callable[[InsertionPoint], LayerParts]
    channels_last: bool = False


# To add a layer form: a name in LayerForm, one function above that builds its modules, one row
# here. Every row is tested as it stands (tests/rewrite/test_residual.py: a blank layer is the
# identity, its hidden width can grow, it can be removed); add one test of what is special about
# the form. Insertion, coupling, scoring and emission do not know the forms. The names alone stand
# in the file format as well: LayerInsertion.form in spec/models.py lists them, which a test checks.
LAYER_FORMS: dict[LayerForm, FormRow] = {
    LayerForm.CONVOLUTION: FormRow(_convolution),
    LayerForm.DEPTHWISE: FormRow(_depthwise),
    LayerForm.TOKEN: FormRow(_token, channels_last=True),
}

_ACTIVATION_MODULES = (
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
_ACTIVATION_FUNCTIONS = frozenset(
    (
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
        aten.relu.default,
        aten.relu_.default,
        aten.gelu.default,
        aten.silu.default,
        aten.silu_.default,
        aten.hardswish.default,
        aten.hardswish_.default,
        aten.elu.default,
        aten.tanh.default,
    )
)
_ACTIVATION_METHODS = ("relu", "relu_", "tanh")
_SUMS = frozenset(
    (operator.add, operator.iadd, torch.add, "add", "add_", aten.add.Tensor, aten.add_.Tensor)
)


def insertion_points(
    captured: Captured, coupling: Coupling, depth: DepthProposal
) -> tuple[InsertionPoint, ...]:
    """The nodes that candidate layers can follow.

    Args:
        captured: the graph.
        coupling: its neurons.
        depth: which layers are asked for.

    Returns:
        One point per layer, in the order of the graph.

    Raises:
        GrowthError: ``no-edges`` if there is none (or none that ``depth.at`` names).
    """
    graph_module = captured.graph_module
    points = []
    for node in graph_module.graph.nodes:
        shape = coupling.shapes.get(node.name)
        if shape is None:
            continue
        if depth.at:
            is_wanted = _matches(node, depth.at)
        else:
            is_wanted = _closes_a_block(graph_module, node, coupling)
        point = _point_after(graph_module, node, shape, depth.form) if is_wanted else None
        if point is not None:
            points.append(point)
    if not points:
        where = f" that fits {', '.join(depth.at)}" if depth.at else ""
        raise GrowthError(
            "no-edges", f"no edge of the graph{where} can take a residual layer; leave layers out"
        )
    return tuple(points)


def _matches(node: fx.Node, patterns: Iterable[str]) -> bool:
    """Whether a pattern fits the name of a node or the path of the module that it calls."""
    target = str(node.target)
    return any(fnmatchcase(node.name, p) or fnmatchcase(target, p) for p in patterns)


def _is_activation(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(graph_module.get_submodule(str(node.target)), _ACTIVATION_MODULES)
    if node.target in _ACTIVATION_FUNCTIONS:
        return True
    return node.op == "call_method" and node.target in _ACTIVATION_METHODS


def _closes_a_block(graph_module: fx.GraphModule, node: fx.Node, coupling: Coupling) -> bool:
    """Whether a node is an activation or a residual sum that goes elsewhere than into one."""
    if _is_activation(graph_module, node):
        return True
    if node.target not in _SUMS or len(node.all_input_nodes) != 2:
        return False
    sizes = set()
    for source in node.all_input_nodes:
        shape = coupling.shapes.get(source.name)
        if shape is None or source.op == "get_attr":  # a number, or a parameter (a bias)
            return False
        sizes.add(shape.size)
    # Of a sum that goes into an activation alone, the activation closes the block.
    goes_elsewhere = not all(_is_activation(graph_module, user) for user in node.users)
    return len(sizes) == 1 and goes_elsewhere


def _point_after(
    graph_module: fx.GraphModule, node: fx.Node, shape: NodeShape, form: LayerForm | None
) -> InsertionPoint | None:
    """The insertion point after a node.

    None if its value has no one axis of neurons that a layer of the form can read.
    """
    rank = len(shape.size)
    dims = shape.dims
    # In [batch, tokens, channels] an embedding of positions labels the tokens as well.
    if rank == 3 and 2 in dims:
        dims = dims - {1}
    if len(dims) != 1 or rank < 2 or not node.users:
        return None
    (dim,) = dims
    channels_last = dim == rank - 1
    if form is None:
        form = LayerForm.TOKEN if channels_last else _usual_convolution(graph_module)
    if LAYER_FORMS[form].channels_last != channels_last:
        return None
    if not channels_last:
        if dim != 1 or rank not in _CONVOLUTIONS:
            return None
        if max(shape.size[2:]) < 2:  # [batch, channels, 1, 1]: no space to convolve over
            return None
    return InsertionPoint(node.name, form, shape.size[dim], rank)


def _usual_convolution(graph_module: fx.GraphModule) -> LayerForm:
    """Depthwise in a model that has depthwise convolutions."""
    convolution_types = tuple(_CONVOLUTIONS.values())
    for module in graph_module.modules():
        if not isinstance(module, convolution_types):
            continue
        if module.groups == module.in_channels and module.groups != 1:
            return LayerForm.DEPTHWISE
    return LayerForm.CONVOLUTION


def insert_layers(
    captured: Captured, edges: Iterable[InsertionPoint], norm: bool
) -> tuple[Captured, tuple[IdentityLayer, ...]]:
    """Insert a candidate layer with h = 0 at every insertion point.

    Args:
        captured: the graph; it stays as it is.
        edges: where, and of which form.
        norm: put a batch norm inside h, where one fits.

    Returns:
        The same model, as a graph module of the same modules, and the layers in it.
    """
    old = captured.graph_module
    module = fx.GraphModule(old, copy.deepcopy(old.graph), type(old).__name__)
    module.train(captured.model.training)
    layers = tuple(_insert(module, point, norm) for point in edges)
    module.graph.lint()
    module.recompile()
    return Captured(module, module, captured.example_inputs, captured.report), layers


def _insert(module: fx.GraphModule, point: InsertionPoint, norm: bool) -> IdentityLayer:
    like = next(parameter for parameter in module.parameters() if parameter.is_floating_point())
    node = next(node for node in module.graph.nodes if node.name == point.node)
    path = _free_path(module, f"{LAYER_NAMESPACE}.{point.node}")
    provenance = Provenance("identity-layer", path)
    parts = _layer_parts(point, norm)
    inserted = set()
    value = node
    for name, part in parts.items():
        module.add_submodule(f"{path}.{name}", _blank(part).to(like).train(module.training))
        with module.graph.inserting_after(value):
            value = module.graph.call_module(f"{path}.{name}", (value,))
        value.meta["fxgrow"] = provenance
        inserted.add(value)
    with module.graph.inserting_after(value):
        total = module.graph.call_function(operator.add, (node, value))
    total.meta["fxgrow"] = provenance
    inserted.add(total)
    # All others that use x use x + h(x) from now on.
    node.replace_all_uses_with(total, delete_user_cb=lambda user: user not in inserted)
    return IdentityLayer(path, point.node, total.name, point.form, "norm" in parts)


def _layer_parts(point: InsertionPoint, norm: bool) -> LayerParts:
    """The modules of a layer, with a batch norm after the first if there is to be one."""
    row = LAYER_FORMS[point.form]
    parts = row.build(point)
    # A batch norm runs over dimension 1, which of [batch, tokens, channels] is the tokens.
    if not norm or (row.channels_last and point.rank != 2):
        return parts
    incoming = parts.pop("incoming")
    return {"incoming": incoming, "norm": _BATCH_NORMS[point.rank](BLANK_NEURONS), **parts}


def _blank(part: nn.Module) -> nn.Module:
    """Set all weights to zero, and stop gradients while candidates are searched."""
    # A batch norm of zeros gives its bias, zero; its weight stays 1 for the real neurons.
    if not isinstance(part, tuple(_BATCH_NORMS.values())):
        for parameter in part.parameters():
            nn.init.zeros_(parameter)
    return part.requires_grad_(requires_grad=False)


def _free_path(module: fx.GraphModule, path: str) -> str:
    """A path that no module has: this one, else with a number behind it."""
    taken = {name for name, _ in module.named_modules()}
    free, number = path, 1
    while free in taken:
        free, number = f"{path}_{number}", number + 1
    return free


def remove_layers(module: fx.GraphModule, layers: Iterable[IdentityLayer]) -> None:
    """Take candidate layers out of a graph again.

    Args:
        module: what ``insert_layers`` returned; it is changed in place.
        layers: the layers to remove.
    """
    nodes = {node.name: node for node in module.graph.nodes}
    for layer in layers:
        total = nodes[layer.sum]
        source, value = cast("tuple[fx.Node, fx.Node]", total.args)  # x, h(x)
        total.replace_all_uses_with(source)
        # From the end to the start: a node that is still used cannot be erased.
        module.graph.erase_node(total)
        while value is not source:
            previous = value.all_input_nodes[0]
            module.graph.erase_node(value)
            value = previous
        module.delete_submodule(layer.path)
    if not list(module.get_submodule(LAYER_NAMESPACE).children()):
        module.delete_submodule(LAYER_NAMESPACE)
    module.graph.lint()
    module.recompile()
