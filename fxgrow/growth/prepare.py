"""What candidates are put into: the captured model, with blank layers at its edges if the method proposes layers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import nn
from torch.optim import Optimizer

from fxgrow.capture import Captured
from fxgrow.coupling import Coupling, couple
from fxgrow.growth.method import Method, Proposal
from fxgrow.growth.scope import ALL_WIDTHS, Scope
from fxgrow.rewrite import (
    LAYER_NAMESPACE,
    IdentityLayer,
    insert_layers,
    insertion_points,
    remove_layers,
)


@dataclass(frozen=True)
class PreparedModel:
    """``proposed`` names widths of ``coupling`` by number; ``layers[number]``: the layer whose hidden width that is."""

    captured: Captured
    coupling: Coupling
    proposed: Proposal
    layers: Mapping[int, IdentityLayer] = field(default_factory=dict)


def prepare(
    captured: Captured, coupling: Coupling, method: Method, scope: Scope = ALL_WIDTHS
) -> PreparedModel:
    """Ask the method for its candidates, and insert the layers that it proposes, as yet without neurons.

    ``scope``: that in which the model was coupled; hidden widths of layers grow in any case.
    """
    proposed = method.propose(coupling)
    depth = proposed.layers
    if depth is None:
        return PreparedModel(captured, coupling, proposed)
    edges = insertion_points(captured, coupling, depth)
    deeper, inserted = insert_layers(captured, edges, depth.norm)
    again = couple(
        deeper,
        only=[*scope.only, f"{LAYER_NAMESPACE}.*.incoming"] if scope.only else (),
        ignore=scope.ignore,
    )
    numbers = {width.name: number for number, width in enumerate(again.widths)}
    layers = {numbers[layer.width]: layer for layer in inserted}
    same = {n: numbers[width.name] for n, width in enumerate(coupling.widths)}
    split = frozenset(same[n] for n in proposed.split)
    new = {same[n]: count for n, count in proposed.new.items()} | dict.fromkeys(
        layers, depth.neurons
    )
    return PreparedModel(deeper, again, Proposal(split, new, depth), layers)


def remove_unused_layers(
    ground: PreparedModel, kept: Iterable[int], like: nn.Module, optimizer: Optimizer | None
) -> None:
    """Erase the layers that got no neurons; the others learn from now on, in the first group of the optimiser.

    ``like``: the model before, whose mode the new modules take over.
    """
    model, stay = ground.captured.graph_module, set(kept) & ground.layers.keys()
    remove_layers(model, [layer for number, layer in ground.layers.items() if number not in stay])
    for number in stay:
        layer = model.get_submodule(ground.layers[number].path).requires_grad_()
        if optimizer is not None:
            optimizer.param_groups[0]["params"].extend(layer.parameters())
    known = set(like.modules())
    for module in (one for one in model.modules() if one not in known):
        module.training = like.training
