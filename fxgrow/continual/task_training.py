"""How a network for one task comes about: try what is there, else choose, grow and train (Wu et al. 2020, Figure 2)."""

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
from fxgrow.continual.ownership import new_entry_masks, task_owned_tensors
from fxgrow.continual.reuse import select_reused, submodel
from fxgrow.continual.settings import Loader, TrainSettings
from fxgrow.continual.shared_network import NEW_NEURON, SharedNetwork, TaskNetwork
from fxgrow.coupling import couple
from fxgrow.documents import limits
from fxgrow.growth import Budget, LossFunction, Objective
from fxgrow.spec import StrictModel
from fxgrow.training import accuracy


class MasterSettings(StrictModel):
    """``train``: of every task; ``try_epochs``: of a new head and normalisation on what is there.

    ``growth_batches``: training batches that decide what is used and what grows; ``leave_out``: the largest share of
    old neurons that a task goes without, as long as its loss rises by no more than the share ``tolerance``.
    """

    train: TrainSettings = TrainSettings()
    try_epochs: int = Field(default=1, ge=1, le=limits.EPOCHS)
    growth_batches: int = Field(default=4, ge=1, le=limits.BATCHES)
    leave_out: float = Field(default=0.25, ge=0, lt=1)
    tolerance: float = Field(default=0.01, ge=0, le=limits.RATE)


@dataclass(frozen=True, eq=False)
class TaskRequest:
    """What is to be learnt, and how."""

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
        """Whether the target is met."""
        return self.target is not None and accuracy(network, self.valid) >= self.target


@dataclass(frozen=True, eq=False)
class TrainedTask:
    """The trained draft, how right the try was, what the expansion did, and how many passes led to the training."""

    draft: TaskNetwork
    tried: float | None = None
    expanded: ExpandedNetwork | None = None
    growing_epochs: float = 0.0


def train_first_task(union: SharedNetwork, request: TaskRequest) -> TrainedTask:
    """The first task trains everything there is, and grows only if its target is not met."""
    network = submodel(union.module, union.coupling, {})
    new_head(network, union.head, request.classes, torch.Generator().manual_seed(request.seed))
    train_task(network, request.train, request.loss, request.settings.train, _everything(network))
    masks = union.full_masks
    if request.target is None or request.reached(network):
        return TrainedTask(_all_new(_untouched(network, masks)))
    seen = _Seen(request.loss)
    expanded = _expanded(network, union, request, seen, unlock=False)
    passes = seen.count / _size(request)
    train_task(
        expanded.network,
        request.train,
        request.loss,
        request.settings.train,
        _everything(expanded.network),
    )
    return TrainedTask(_all_new(_draft(expanded, masks)), None, expanded, passes)


def train_next_task(union: SharedNetwork, request: TaskRequest) -> TrainedTask:
    """A later task trains a head and normalisation of its own, and if that does not do, what it unlocks and adds."""
    network = submodel(union.module, union.coupling, {})
    new_head(network, union.head, request.classes, torch.Generator().manual_seed(request.seed))
    own = task_owned_tensors(network, union.head)
    trial = request.settings.train.model_copy(update={"epochs": request.settings.try_epochs})
    train_task(
        network,
        request.train,
        request.loss,
        trial,
        {n: m for n, m in _everything(network).items() if n in own},
    )
    tried, passes = accuracy(network, request.valid), float(request.settings.try_epochs)
    if request.reached(network):
        return TrainedTask(_untouched(network, union.full_masks), tried, None, passes)
    how, seen = request.settings, _Seen(request.loss)
    masks = select_reused(
        network, union.coupling, _objective(request, network, seen), how.leave_out, how.tolerance
    )
    used = submodel(network, union.coupling, masks)
    expanded = _expanded(used, union, request, seen, unlock=True)
    passes += seen.count / _size(request)
    draft = _draft(expanded, masks)
    train_task(
        draft.network, request.train, request.loss, request.settings.train, _free(draft, union)
    )
    return TrainedTask(draft, tried, expanded, passes)


def _everything(network: nn.Module) -> dict[str, Tensor]:
    return {name: torch.ones_like(p, dtype=torch.bool) for name, p in network.named_parameters()}


def _free(draft: TaskNetwork, union: SharedNetwork) -> FreeMasks:
    """What belongs to the task alone: its head and normalisation, and all that lies on a fresh neuron."""
    own = task_owned_tensors(draft.network, union.head)
    coupling = couple(draft.network, union.inputs)
    mine = {name: mask for name, mask in _everything(draft.network).items() if name in own}
    return new_entry_masks(draft.network, coupling, draft.new) | mine


@dataclass(eq=False)
class _Seen:
    """A loss that counts the examples that it is asked about."""

    loss: LossFunction
    count: int = 0

    def __call__(self, output: Any, target: Tensor) -> Tensor:
        self.count += len(target)
        return self.loss(output, target)


def _size(request: TaskRequest) -> int:
    return sum(len(target) for _, target in request.train)


def _objective(request: TaskRequest, network: nn.Module, loss: LossFunction) -> Objective:
    return Objective.of(islice(request.train, request.settings.growth_batches), loss, network)


def _expanded(
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
    """The first task's: there was nothing before it."""
    return TaskNetwork(
        draft.network,
        {name: torch.full_like(o, NEW_NEURON) for name, o in draft.origin.items()},
        draft.unlocked,
    )


def _untouched(network: nn.Module, masks: Mapping[str, Tensor]) -> TaskNetwork:
    return _draft(ExpandedNetwork(network), masks)


def _draft(expanded: ExpandedNetwork, masks: Mapping[str, Tensor]) -> TaskNetwork:
    """Where each neuron of the expanded network comes from: one of those that ``masks`` keep, or nowhere."""
    origin, unlocked = {}, {}
    for name, mask in masks.items():
        kept, new = mask.nonzero().reshape(-1), expanded.new.get(name, 0)
        origin[name] = torch.cat([kept, kept.new_full((new,), NEW_NEURON)])
        copies = expanded.unlocked.get(name, torch.zeros(len(kept), dtype=torch.bool))
        unlocked[name] = torch.cat([copies, copies.new_zeros(new)])
    return TaskNetwork(expanded.network, origin, unlocked)
