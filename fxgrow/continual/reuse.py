"""Which old neurons a new task uses: those whose removal its loss would notice.

Neuron i is removed by setting everything that reads it to zero. To first order that changes the
loss by -sum_W <dL/dW, W> over the entries W that read it (Molchanov et al., "Pruning Convolutional
Neural Networks for Resource Efficient Inference", ICLR 2017, Eq. 7, for whole neurons). The neurons
with the smallest such change are left out, as many as the loss really allows; how many are tried
first is halved until it does.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fxgrow.continual.ownership import Masks
from fxgrow.coupling import Coupling, Role
from fxgrow.growth import Objective, emit
from fxgrow.modes import evaluation_mode, frozen_parameters
from fxgrow.surgery import Change

_MAX_TRIALS = 3
_MAX_DROPPED_SHARE = 0.5
"""No width loses more of its neurons than this share."""
_MIN_NEURONS = 2
"""With one neuron alone a depthwise convolution or a channel shuffle looks like an ordinary layer,
and the width could not be recognized again."""


def maskable_widths(coupling: Coupling) -> list[int]:
    """List the widths of which a task may use a part.

    Args:
        coupling: the coupling of a network.

    Returns:
        The numbers of the growable widths whose order no replay decides.
    """
    replayed = coupling.replay.singly if coupling.replay else frozenset()
    numbers: list[int] = []
    for number, width in enumerate(coupling.widths):
        if width.growable and number not in replayed:
            numbers.append(number)
    return numbers


def submodel(model: nn.Module, coupling: Coupling, masks: Masks) -> nn.Module:
    """Copy a model with some of its neurons alone.

    Args:
        model: the model.
        coupling: its coupling.
        masks: by name of a width, which of its neurons are kept; others stay complete.

    Returns:
        A compact module of the same class.
    """
    changes: dict[int, Change] = {}
    for number, width in enumerate(coupling.widths):
        mask = masks.get(width.name)
        if mask is not None and not mask.all():
            # A change lists how often each neuron occurs afterwards: 0 or 1.
            changes[number] = Change(tuple(mask.int().tolist()))
    compact = copy.deepcopy(model)
    emit(compact, coupling, changes, {})
    return compact


def full_masks(coupling: Coupling) -> dict[str, Tensor]:
    """Make the masks of a task that uses all neurons.

    Args:
        coupling: the coupling of a network.

    Returns:
        A mask for every width of which a task may use a part, by name.
    """
    masks: dict[str, Tensor] = {}
    for number in maskable_widths(coupling):
        width = coupling.widths[number]
        masks[width.name] = torch.ones(width.size, dtype=torch.bool)
    return masks


def select_reused(
    model: nn.Module, coupling: Coupling, objective: Objective, share: float, tolerance: float
) -> dict[str, Tensor]:
    """Choose the neurons that a task uses: as many as possible are left out.

    Args:
        model: the network with all neurons.
        coupling: its coupling.
        objective: the task's loss and growth batches.
        share: the largest share of all neurons to leave out.
        tolerance: the loss may become at most ``1 + tolerance`` times that with all neurons.

    Returns:
        By name of a width one boolean per neuron, true for those that are used.
    """
    importance = taylor_importance(model, coupling, objective)
    with evaluation_mode(model):
        largest_loss = objective.mean(model) * (1 + tolerance)
    for trial in range(_MAX_TRIALS):
        tried_share = share / 2**trial
        masks = _without_least(full_masks(coupling), importance, tried_share)
        # The estimate is of first order only: the real loss decides.
        compact = submodel(model, coupling, masks)
        with evaluation_mode(compact):
            if objective.mean(compact) <= largest_loss:
                return masks
    return full_masks(coupling)


def taylor_importance(
    model: nn.Module, coupling: Coupling, objective: Objective
) -> dict[str, Tensor]:
    """Estimate to first order how much the loss would change without each neuron.

    Args:
        model: the network.
        coupling: its coupling.
        objective: the loss and the growth batches.

    Returns:
        By name of a width one number per neuron, not negative.
    """
    parameters = dict(model.named_parameters())
    numbers = maskable_widths(coupling)
    reader_names: set[str] = set()
    for number in numbers:
        for key in _reading_axes(coupling, number):
            reader_names.add(key[0])
    weights = {name: parameters[name] for name in sorted(reader_names & parameters.keys())}
    products = _gradient_products(weights, model, objective)
    importance: dict[str, Tensor] = {}
    for number in numbers:
        width = coupling.widths[number]
        total = torch.zeros(width.size)
        for key in _reading_axes(coupling, number):
            if key[0] in products:
                total = total + _neuron_sums(coupling, number, key, products[key[0]])
        importance[width.name] = total.abs()
    return importance


def _reading_axes(coupling: Coupling, number: int) -> list[tuple[str, int]]:
    """The parameters and axes that read a width."""
    sites = coupling.widths[number].sites
    return [site.key for site in sites if site.role is Role.READS]


def _gradient_products(
    weights: Mapping[str, nn.Parameter], model: nn.Module, objective: Objective
) -> dict[str, Tensor]:
    """dL/dW * W of every weight, for the mean loss over all growth batches."""
    sizes = objective.sizes
    means = [torch.zeros_like(weight) for weight in weights.values()]
    with frozen_parameters(model, except_for=weights), evaluation_mode(model):
        for batch, size in zip(objective.batches, sizes, strict=True):
            # A weight that the loss does not depend on gets a gradient of zeros.
            gradients = torch.autograd.grad(
                objective.on(model, batch),
                list(weights.values()),
                allow_unused=True,
                materialize_grads=True,
            )
            for mean, gradient in zip(means, gradients, strict=True):
                mean.add_(gradient, alpha=size / sum(sizes))
    products: dict[str, Tensor] = {}
    for (name, weight), mean in zip(weights.items(), means, strict=True):
        products[name] = (mean * weight).detach().cpu()
    return products


def _neuron_sums(coupling: Coupling, number: int, key: tuple[str, int], product: Tensor) -> Tensor:
    """What belongs to each neuron of a width along one axis, summed."""
    owners, axis = coupling.owners[key], key[1]
    sums = product.movedim(axis, 0).flatten(1).sum(1) if product.dim() > 1 else product
    of_width = torch.from_numpy(owners.width == number)
    neurons = torch.from_numpy(owners.neuron)[of_width]
    total = torch.zeros(coupling.widths[number].size, dtype=sums.dtype)
    # A neuron may own several indices (the pixels of a flattened map): index_add sums over them.
    return total.index_add(0, neurons, sums[of_width])


def _without_least(
    full: Masks, importance: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Leave out the least important neurons, up to a share of all and of each width."""
    masks = {name: mask.clone() for name, mask in full.items()}
    droppable: dict[str, int] = {}
    for name, mask in masks.items():
        most = min(int(len(mask) * _MAX_DROPPED_SHARE), len(mask) - _MIN_NEURONS)
        droppable[name] = max(0, most)
    ranked: list[tuple[float, str, int]] = []
    for name, values in importance.items():
        for neuron, value in enumerate(values):
            ranked.append((float(value), name, neuron))
    # By importance; equal ones by width and number, so that the order is fixed.
    ranked.sort()
    remaining = int(share * len(ranked))
    for _, name, neuron in ranked:
        if remaining and droppable[name]:
            masks[name][neuron] = False
            remaining -= 1
            droppable[name] -= 1
    return masks
