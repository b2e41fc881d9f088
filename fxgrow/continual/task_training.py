"""How a network for one task comes about: try what is there, else choose, grow and train.

Reference: Wu et al. 2020, Sec. 2.4 and Figure 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from fxgrow.continual.expansion import ExpandedNetwork, Expansion
from fxgrow.continual.fit import FreeMasks, train_task
from fxgrow.continual.head import new_head
from fxgrow.continual.ownership import all_entries, new_entry_masks, task_owned_tensors
from fxgrow.continual.reuse import select_reused, submodel
from fxgrow.continual.settings import Loader, TrainSettings
from fxgrow.continual.shared_network import NEW_NEURON, SharedNetwork, TaskNetwork
from fxgrow.coupling import couple
from fxgrow.documents import limits
from fxgrow.growth import Budget, LossFunction, Objective, assign_roles
from fxgrow.spec import StrictModel
from fxgrow.training import accuracy


class MasterSettings(StrictModel):
    """How a master network learns its tasks.

    Args:
        train: how the weights of every task are trained.
        try_epochs: the epochs in which a later task first tries what is there, with a head and
            normalization of its own.
        growth_batches: most training batches that decide what is used and what grows; each is
            searched on, scored on or held out. More than 24 have no use for the default expansion.
        leave_out: the largest share of old neurons that a task goes without.
        tolerance: by what share its loss may rise by that.

    Example:
        >>> settings = MasterSettings(train=TrainSettings(epochs=5), leave_out=0.1)
        >>> master = Master(model, images, settings=settings)
    """

    train: TrainSettings = TrainSettings()
    try_epochs: int = Field(default=1, ge=1, le=limits.EPOCHS)
    growth_batches: int = Field(default=24, ge=1, le=limits.BATCHES)
    leave_out: float = Field(default=0.25, ge=0, lt=1)
    tolerance: float = Field(default=0.01, ge=0, le=limits.RATE)


@dataclass(frozen=True, eq=False)
class TaskRequest:
    """What to learn, and how.

    Args:
        train: batches to train on.
        valid: batches to validate on.
        classes: how many classes the task has.
        loss: of the network's output and the labels.
        budget: what the task may unlock and add.
        target: the accuracy on ``valid`` with which the task is done; None: there is none.
        seed: decides everything that is drawn at random.
        expansion: how neurons are chosen.
        settings: how the master network learns its tasks.
    """

    train: Loader
    valid: Loader
    classes: int
    loss: LossFunction
    budget: Budget
    target: float | None
    seed: int
    expansion: Expansion
    settings: MasterSettings

    def reached(self, network: nn.Module) -> bool:
        """Tell whether a network meets the target."""
        return self.target is not None and accuracy(network, self.valid) >= self.target


@dataclass(frozen=True, eq=False)
class TrainedTask:
    """A task's network before it is merged, and how it came about.

    Args:
        draft: the trained network.
        tried: the accuracy of the first try; None: the first task, which has none.
        expanded: the outcome of the expansion; None: there was none.
        growing_epochs: passes over the training images before the training.
    """

    draft: TaskNetwork
    tried: float | None = None
    expanded: ExpandedNetwork | None = None
    growing_epochs: float = 0.0


def train_first_task(union: SharedNetwork, request: TaskRequest) -> TrainedTask:
    """Train all of the network, and grow only if the target is not met.

    Args:
        union: the master network without any task; it stays as it is.
        request: what to learn, and how.

    Returns:
        The trained network.
    """
    network = _with_new_head(union, request)
    _train(network, request, _all_parameters(network))
    masks = union.full_masks
    if request.target is None or request.reached(network):
        return TrainedTask(_all_new(_unexpanded(network, masks)))
    loss = _CountingLoss(request.loss)
    # There is no earlier task to protect, so there is nothing to unlock.
    expanded = _expand(network, union, request, loss, unlock=False)
    growing_epochs = loss.count / _num_examples(request)
    _train(expanded.network, request, _all_parameters(expanded.network))
    return TrainedTask(_all_new(_draft(expanded, masks)), None, expanded, growing_epochs)


def train_next_task(union: SharedNetwork, request: TaskRequest) -> TrainedTask:
    """Train a new head and normalization; if that does not do, also what is unlocked and added.

    Args:
        union: the master network with the earlier tasks; it stays as it is.
        request: what to learn, and how.

    Returns:
        The trained network.
    """
    settings = request.settings
    network = _with_new_head(union, request)
    # Figure 2, step 1: what is there may do already.
    tried = _try_as_it_is(network, union, request)
    growing_epochs = float(settings.try_epochs)
    if request.reached(network):
        return TrainedTask(_unexpanded(network, union.full_masks), tried, None, growing_epochs)
    # Choosing and searching are counted in passes over the training images.
    loss = _CountingLoss(request.loss)
    # What is left out is decided on batches to search on, so that those to score on are unseen.
    searched, _ = assign_roles(_objective(request, network, loss), request.expansion)
    masks = select_reused(network, union.coupling, searched, settings.leave_out, settings.tolerance)
    reused = submodel(network, union.coupling, masks)
    # Step 2: locked, unlocked and new neurons compete for the budget.
    expanded = _expand(reused, union, request, loss, unlock=True)
    growing_epochs += loss.count / _num_examples(request)
    draft = _draft(expanded, masks)
    # Step 3: only what no earlier task sees is trained.
    _train(draft.network, request, _task_entries(draft, union))
    return TrainedTask(draft, tried, expanded, growing_epochs)


def _with_new_head(union: SharedNetwork, request: TaskRequest) -> nn.Module:
    """A copy of the union network with a head for the task's classes."""
    network = submodel(union.module, union.coupling, {})
    generator = torch.Generator().manual_seed(request.seed)
    new_head(network, union.head, request.classes, generator)
    return network


def _train(network: nn.Module, request: TaskRequest, free: FreeMasks) -> None:
    train_task(network, request.train, request.loss, request.settings.train, free)


def _try_as_it_is(network: nn.Module, union: SharedNetwork, request: TaskRequest) -> float:
    """Train head and normalization alone, in place; the accuracy on the validation images."""
    settings = request.settings
    short = settings.train.model_copy(update={"epochs": settings.try_epochs})
    free = _own_parameters(network, union.head)
    train_task(network, request.train, request.loss, short, free)
    return accuracy(network, request.valid)


def _all_parameters(network: nn.Module) -> dict[str, Tensor]:
    parameters = dict(network.named_parameters())
    return all_entries(parameters, parameters)


def _own_parameters(network: nn.Module, head: str) -> dict[str, Tensor]:
    """Every entry of the parameters that each task has for itself."""
    return all_entries(dict(network.named_parameters()), task_owned_tensors(network, head))


def _task_entries(draft: TaskNetwork, union: SharedNetwork) -> FreeMasks:
    """What belongs to the task alone: its head and normalization, and all on a new neuron."""
    coupling = couple(draft.network, union.inputs)
    own = _own_parameters(draft.network, union.head)
    return new_entry_masks(draft.network, coupling, draft.new) | own


@dataclass(eq=False)
class _CountingLoss:
    """A loss that counts the examples that it is asked about."""

    loss: LossFunction
    count: int = 0

    def __call__(self, output: Any, target: Tensor) -> Tensor:
        self.count += len(target)
        return self.loss(output, target)


def _num_examples(request: TaskRequest) -> int:
    return sum(len(target) for _, target in request.train)


def _objective(request: TaskRequest, network: nn.Module, loss: LossFunction) -> Objective:
    growth_batches = islice(request.train, request.settings.growth_batches)
    return Objective.of(growth_batches, loss, network)


def _expand(
    network: nn.Module,
    union: SharedNetwork,
    request: TaskRequest,
    loss: LossFunction,
    *,
    unlock: bool,
) -> ExpandedNetwork:
    objective = _objective(request, network, loss)
    return request.expansion.expand(
        network, union.inputs, objective, request.budget, unlock=unlock, seed=request.seed
    )


def _all_new(draft: TaskNetwork) -> TaskNetwork:
    """The draft of a first task: there was nothing before it."""
    origin: dict[str, Tensor] = {}
    for name, places in draft.origin.items():
        origin[name] = torch.full_like(places, NEW_NEURON)
    return TaskNetwork(draft.network, origin, draft.unlocked)


def _unexpanded(network: nn.Module, masks: Mapping[str, Tensor]) -> TaskNetwork:
    return _draft(ExpandedNetwork(network), masks)


def _draft(expanded: ExpandedNetwork, masks: Mapping[str, Tensor]) -> TaskNetwork:
    """Trace each neuron of the expanded network to one that ``masks`` keep, or to none."""
    origin: dict[str, Tensor] = {}
    unlocked: dict[str, Tensor] = {}
    for name, mask in masks.items():
        kept = mask.nonzero().reshape(-1)
        new = expanded.new.get(name, 0)
        # New neurons follow those that were kept.
        origin[name] = torch.cat([kept, kept.new_full((new,), NEW_NEURON)])
        none = torch.zeros(len(kept), dtype=torch.bool)
        copies = expanded.unlocked.get(name, none)
        unlocked[name] = torch.cat([copies, copies.new_zeros(new)])
    return TaskNetwork(expanded.network, origin, unlocked)
