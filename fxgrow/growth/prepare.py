"""Prepare a captured model for growth: ask for candidates, insert candidate layers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import fx, nn
from torch.optim import Optimizer

from fxgrow.capture import HOOKS_LEFT_OUT, Captured
from fxgrow.coupling import UNDER_NORMS, Coupling, CouplingLimits, couple
from fxgrow.errors import GrowthError
from fxgrow.growth.method import Method, Proposal, proposal_of
from fxgrow.growth.scope import ALL_WIDTHS, Scope
from fxgrow.growth.streams import free_streams
from fxgrow.rewrite import (
    LAYER_NAMESPACE,
    IdentityLayer,
    insert_layers,
    insertion_points,
    register_as_used,
    remove_layers,
)
from fxgrow.surgery import join_groups, sort_groups


@dataclass(frozen=True)
class PreparedModel:
    """A model with the candidates that shall be put into it.

    Args:
        captured: the model; with zero-initialized residual layers if the method proposes layers.
        coupling: the widths of ``captured``.
        proposal: the candidates; widths by their number in ``coupling``.
        layers: per number of a hidden width, the candidate layer that it belongs to.
        halves: what a split candidate stands for: two copies with opposite directions, or (off)
            one changed copy beside the original (an unlocked neuron of continual learning).
    """

    captured: Captured
    coupling: Coupling
    proposal: Proposal
    layers: Mapping[int, IdentityLayer] = field(default_factory=dict)
    halves: bool = True


def couple_in_scope(
    captured: Captured,
    scope: Scope = ALL_WIDTHS,
    examples: Sequence[Any] = (),
    frozen: Sequence[str] = (),
) -> Coupling:
    """Couple a model; widths under norms that the scope names can get new neurons.

    Args:
        captured: the model.
        scope: which widths may grow. Of widths that norms run over only those that ``only`` calls
            by their own names: one neuron more of a stream is a row or column of every layer.
        examples: more example inputs.
        frozen: names of parameters whose widths stay as they are.
    """
    within = CouplingLimits(scope.ignore, scope.only, frozen)
    coupling = couple(captured, examples=examples, **within._asdict())
    names = []
    for width in coupling.widths:
        is_under_norms = width.refusal is not None and width.refusal.code in UNDER_NORMS
        if is_under_norms and width.name in scope.only:
            names.append(width.name)
    return free_streams(captured, coupling, names, examples, within) if names else coupling


def prepare(
    captured: Captured,
    coupling: Coupling,
    method: Method,
    scope: Scope = ALL_WIDTHS,
    examples: Sequence[Any] = (),
    frozen: Sequence[str] = (),
) -> PreparedModel:
    """Insert a zero-initialized residual layer at every edge that the method proposes.

    Args:
        captured: the model; it is extended in place if the method proposes layers.
        coupling: its widths, coupled within ``scope``.
        method: proposes the candidates.
        scope: which widths may grow. Hidden widths of candidate layers grow in any case.
        examples: more example inputs, of which the coupling knows too.
        frozen: names of parameters whose widths stay as they are.

    Returns:
        The model with its candidates, coupled again if layers were inserted.

    Raises:
        GrowthError: ``hooked-module``, if a hook would be lost with the module that it is on.
    """
    proposal = proposal_of(method, coupling)
    if proposal.layers is None:
        return PreparedModel(captured, coupling, proposal)
    _require_no_hook_left_out(captured)
    points = insertion_points(captured, coupling, proposal.layers)
    deeper, inserted = insert_layers(captured, points, proposal.layers.norm)
    only = [*scope.only, f"{LAYER_NAMESPACE}.*.incoming"] if scope.only else []
    within = scope.model_copy(update={"only": tuple(only)})
    deeper_coupling = couple_in_scope(deeper, within, examples, frozen)
    # Widths are numbered anew, so everything proposed by number is translated by name.
    numbers = deeper_coupling.number_of
    layers = {numbers[layer.width]: layer for layer in inserted}
    split = set()
    for number in proposal.split:
        split.add(numbers[coupling.widths[number].name])
    new = {}
    for number, count in proposal.new.items():
        new[numbers[coupling.widths[number].name]] = count
    for point, layer in zip(points, inserted, strict=True):
        wanted = proposal.layers.neurons
        # Without a number the layer becomes as wide as what it reads.
        new[numbers[layer.width]] = point.channels if wanted is None else wanted
    refusals = {}
    for number, refusal in proposal.refusals.items():
        refusals[numbers[coupling.widths[number].name]] = refusal
    translated = replace(proposal, split=frozenset(split), new=new, refusals=refusals)
    return PreparedModel(deeper, deeper_coupling, translated, layers)


def _require_no_hook_left_out(captured: Captured) -> None:
    """A model with new layers is a graph, in which only the innermost modules are left."""
    left_out = captured.graph_module.meta.get(HOOKS_LEFT_OUT)
    if left_out:
        name = repr(left_out[0]) if left_out[0] else "the model itself"
        raise GrowthError(
            "hooked-module",
            f"{name} has a forward hook, which would be lost with its module in a model with new "
            "layers; remove the hook and register it on the grown model, or propose no layers",
        )


def _parameters_near(graph_module: fx.GraphModule, name: str) -> list[nn.Parameter]:
    """The parameters of a graph, those first that are used next to a node."""
    nodes = list(graph_module.graph.nodes)
    (place,) = (index for index, node in enumerate(nodes) if node.name == name)
    near: list[nn.Parameter] = []
    # Of two that are equally far, what comes before the node is the nearer one.
    for index in sorted(range(len(nodes)), key=lambda index: abs(index - place)):
        node = nodes[index]
        if node.op == "call_module":
            near += graph_module.get_submodule(str(node.target)).parameters()
        elif node.op == "get_attr":
            path, _, attribute = str(node.target).rpartition(".")
            value = getattr(graph_module.get_submodule(path), attribute)
            near += [value] if isinstance(value, nn.Parameter) else []
    return near


def remove_unused_layers(
    prepared: PreparedModel,
    used_widths: Iterable[int],
    model_before: nn.Module,
    optimizers: Sequence[Optimizer],
) -> None:
    """Remove the candidate layers that got no neurons, and let the others learn.

    Without candidate layers nothing happens.

    Args:
        prepared: the model with candidate layers; it is changed in place.
        used_widths: numbers of the widths that gained neurons.
        model_before: the model before growth, whose training mode the new modules take over.
        optimizers: get the parameters of the new layers in the groups of those that lie next.
    """
    if not prepared.layers:
        return
    model = prepared.captured.graph_module
    used = set(used_widths) & prepared.layers.keys()
    unused = [layer for number, layer in prepared.layers.items() if number not in used]
    remove_layers(model, unused)
    for number in sorted(used):
        layer = prepared.layers[number]
        module = model.get_submodule(layer.path).requires_grad_()
        neighbors = _parameters_near(model, layer.sum)
        new = [(parameter, neighbors) for parameter in module.parameters()]
        join_groups(optimizers, model, new)
    if used:  # else the model grows again without a graph
        register_as_used(model)
        sort_groups(optimizers, model)
    known = set(model_before.modules())
    for module in model.modules():
        if module not in known:
            module.training = model_before.training
