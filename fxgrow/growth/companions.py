"""Networks that grow with a model: its moving average, a teacher, an average of its weights.

A companion has the model's architecture and other weights. It grows by the model's own IndexMaps,
and keeps its function: what it copies it shares out as the model does, what reads a new neuron
reads 0, and what writes and carries one is the model's. So an average of the weights starts from
what they are where they are new, and averages what reads them in.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from fxgrow.coupling import Coupling, Fill, Role
from fxgrow.errors import GrowthError
from fxgrow.growth.emit import emit
from fxgrow.growth.invariants import full_precision
from fxgrow.growth.objective import Objective
from fxgrow.growth.prepare import PreparedModel
from fxgrow.growth.rounding import Snapshot, require_same
from fxgrow.modes import evaluation_mode
from fxgrow.surgery import Change, Maps, named_tensors, parameter_shapes, update_config


def network_of(companion: nn.Module) -> nn.Module:
    """The network of a companion; torch's ``AveragedModel`` holds it in an attribute."""
    return companion.module if isinstance(companion, AveragedModel) else companion


def require_alike(companions: Iterable[nn.Module], model: nn.Module) -> None:
    """Check that companions have the tensors of a model, by names and shapes, and none of them.

    Args:
        companions: networks that are to grow with it.
        model: the model before it grows.

    Raises:
        GrowthError: ``unlike-models``.
    """
    # By names and shapes: a class may be wrapped, and is no promise of either.
    own, taken = named_tensors(model), set[int]()
    for companion in companions:
        network = network_of(companion)
        name, tensors = type(network).__name__, named_tensors(network)
        for key in sorted(own.keys() ^ tensors.keys()):
            raise GrowthError(
                "unlike-models",
                f"the companion {name} and the model do not both have {key!r}, so it cannot grow "
                "with it; give a copy of the model",
            )
        for key, tensor in own.items():
            if tensors[key] is tensor:
                raise GrowthError(
                    "unlike-models",
                    f"the companion {name} shares {key!r} with the model, so it would grow twice; "
                    "give a copy of the model",
                )
            if id(tensors[key]) in taken:
                raise GrowthError(
                    "unlike-models",
                    f"the companion {name} shares {key!r} with another one, or was given twice, so "
                    "it would grow twice; give it once",
                )
            if tensors[key].shape != tensor.shape:
                raise GrowthError(
                    "unlike-models",
                    f"{key!r} of the companion {name} has shape {tuple(tensors[key].shape)} and "
                    f"not {tuple(tensor.shape)}; give a copy of the model as it is now",
                )
        taken.update(map(id, tensors.values()))


def require_no_layers(companions: Sequence[nn.Module], prepared: PreparedModel) -> None:
    """Check that no layer may be inserted: a companion has no place for it.

    Raises:
        GrowthError: ``companion-layers``.
    """
    if companions and prepared.layers:
        raise GrowthError(
            "companion-layers",
            "the method inserts layers, which the networks that follow would not get; grow widths "
            "alone, or let nothing follow",
        )


def grow_companion(
    companion: nn.Module,
    prepared: PreparedModel,
    changes: Mapping[int, Change],
    objective: Objective,
) -> None:
    """Grow a companion in place as its model has just grown.

    Args:
        companion: of the architecture that the model had.
        prepared: holds the model, which has grown, and its coupling from before.
        changes: what happened to each width, by its number.
        objective: holds the batch on which outputs are compared.

    Raises:
        GrowthError: ``broken-promise``, if its function changes.
    """
    network, coupling = network_of(companion), prepared.coupling
    # It may be in training mode, in which a run would move its statistics.
    with evaluation_mode(network), full_precision():
        before, shapes = objective.output(network), parameter_shapes(network)
        earlier = Snapshot.of(network)
        maps = emit(network, coupling, changes, {})
        _take_new_entries(network, prepared.captured.model, maps, coupling, changes)
        sizes = ((len(change.times), change.size) for change in changes.values())
        update_config(network, shapes, sizes, prepared.captured.example_inputs)
        compared, models = (objective.output(network), before), (Snapshot.live(network), earlier)
        require_same("what a companion was", compared, models, objective.first_inputs)


def _reading(coupling: Coupling, changes: Mapping[int, Change]) -> set[tuple[str, int]]:
    """The axes that read a width that changes."""
    # What a changed width's readers read may be new; what they write belongs to other widths.
    axes = set()
    for number in changes:
        for site in coupling.widths[number].sites:
            if site.role is Role.READS:
                axes.add((site.parameter, site.axis))
    return axes


@torch.no_grad()
def _take_new_entries(
    network: nn.Module,
    model: nn.Module,
    maps: Maps,
    coupling: Coupling,
    changes: Mapping[int, Change],
) -> None:
    """Give a companion the model's new entries, but none that reads a new neuron.

    Under norms what reads new neurons meets 0, and what writes them is the companion's own.
    """
    own, tensors = named_tensors(model), named_tensors(network)
    rules, reading = coupling.site_rules, _reading(coupling, changes)
    for (name, axis), index_map in maps.items():
        rule = rules.get((name, axis))
        is_kept = (name, axis) in reading if rule is None else rule.fill is not Fill.RANDOM
        if is_kept or not len(index_map.new):
            continue
        tensor = tensors[name]
        places = index_map.new.to(tensor.device)
        entries = own[name].detach().index_select(axis, places.to(own[name].device))
        tensor.data.index_copy_(axis, places, entries.to(tensor))
    # Last, since an entry may be new along both axes.
    for (name, axis), index_map in maps.items():
        if (name, axis) in reading and (name, axis) not in rules and len(index_map.new):
            tensors[name].data.index_fill_(axis, index_map.new.to(tensors[name].device), 0)
