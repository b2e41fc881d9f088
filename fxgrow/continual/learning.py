"""How a network for one task comes about: try what is there, else choose, grow and train (Wu et al. 2020, Figure 2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from fxgrow.continual.entries import fresh_entries, private
from fxgrow.continual.expansion import Expanded, Expansion
from fxgrow.continual.fit import Free, fit
from fxgrow.continual.head import new_head
from fxgrow.continual.reuse import narrowed, reused
from fxgrow.continual.settings import Loader, TrainSettings
from fxgrow.continual.union import NEW, Draft, Union
from fxgrow.coupling import couple
from fxgrow.growth import Budget, Loss, Objective
from fxgrow.spec import Frozen, limits
from fxgrow.training import accuracy


class MasterSettings(Frozen):
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
class Lesson:
    """What is to be learnt, and how."""

    train: Loader
    valid: Loader
    classes: int
    loss: Loss
    budget: Budget
    target: float | None
    seed: int
    expansion: Expansion
    settings: MasterSettings

    def reached(self, network: nn.Module) -> bool:
        """Whether the target is met."""
        return self.target is not None and accuracy(network, self.valid) >= self.target


@dataclass(frozen=True, eq=False)
class Learnt:
    """The trained draft, how right the try was, what the expansion did, and how many passes led to the training."""

    draft: Draft
    tried: float | None = None
    expanded: Expanded | None = None
    growing_epochs: float = 0.0


def first(union: Union, lesson: Lesson) -> Learnt:
    """The first task trains everything there is, and grows only if its target is not met."""
    network = narrowed(union.module, union.coupling, {})
    new_head(network, union.head, lesson.classes, torch.Generator().manual_seed(lesson.seed))
    fit(network, lesson.train, lesson.loss, lesson.settings.train, _everything(network))
    masks = union.everyone
    if lesson.target is None or lesson.reached(network):
        return Learnt(_all_new(_untouched(network, masks)))
    seen = _Seen(lesson.loss)
    expanded = _expanded(network, union, lesson, seen, unlock=False)
    passes = seen.count / _size(lesson)
    fit(expanded.network, lesson.train, lesson.loss, lesson.settings.train, _everything(expanded.network))
    return Learnt(_all_new(_draft(expanded, masks)), None, expanded, passes)


def later(union: Union, lesson: Lesson) -> Learnt:
    """A later task trains a head and normalisation of its own, and if that does not do, what it unlocks and adds."""
    network = narrowed(union.module, union.coupling, {})
    new_head(network, union.head, lesson.classes, torch.Generator().manual_seed(lesson.seed))
    own = private(network, union.head)
    trial = lesson.settings.train.model_copy(update={"epochs": lesson.settings.try_epochs})
    fit(network, lesson.train, lesson.loss, trial, {n: m for n, m in _everything(network).items() if n in own})
    tried, passes = accuracy(network, lesson.valid), float(lesson.settings.try_epochs)
    if lesson.reached(network):
        return Learnt(_untouched(network, union.everyone), tried, None, passes)
    how, seen = lesson.settings, _Seen(lesson.loss)
    masks = reused(network, union.coupling, _objective(lesson, network, seen), how.leave_out, how.tolerance)
    used = narrowed(network, union.coupling, masks)
    expanded = _expanded(used, union, lesson, seen, unlock=True)
    passes += seen.count / _size(lesson)
    draft = _draft(expanded, masks)
    fit(draft.network, lesson.train, lesson.loss, lesson.settings.train, _free(draft, union))
    return Learnt(draft, tried, expanded, passes)


def _everything(network: nn.Module) -> dict[str, Tensor]:
    return {name: torch.ones_like(p, dtype=torch.bool) for name, p in network.named_parameters()}


def _free(draft: Draft, union: Union) -> Free:
    """What belongs to the task alone: its head and normalisation, and all that lies on a fresh neuron."""
    own = private(draft.network, union.head)
    coupling = couple(draft.network, union.inputs)
    mine = {name: mask for name, mask in _everything(draft.network).items() if name in own}
    return fresh_entries(draft.network, coupling, draft.fresh) | mine


@dataclass(eq=False)
class _Seen:
    """A loss that counts the examples that it is asked about."""

    loss: Loss
    count: int = 0

    def __call__(self, output: Any, target: Tensor) -> Tensor:
        self.count += len(target)
        return self.loss(output, target)


def _size(lesson: Lesson) -> int:
    return sum(len(target) for _, target in lesson.train)


def _objective(lesson: Lesson, network: nn.Module, loss: Loss) -> Objective:
    return Objective.of(islice(lesson.train, lesson.settings.growth_batches), loss, network)


def _expanded(network: nn.Module, union: Union, lesson: Lesson, loss: Loss, *, unlock: bool) -> Expanded:
    objective = _objective(lesson, network, loss)
    return lesson.expansion.expand(network, union.inputs, objective, lesson.budget, unlock=unlock, seed=lesson.seed)


def _all_new(draft: Draft) -> Draft:
    """The first task's: there was nothing before it."""
    return Draft(draft.network, {name: torch.full_like(o, NEW) for name, o in draft.origin.items()}, draft.unlocked)


def _untouched(network: nn.Module, masks: Mapping[str, Tensor]) -> Draft:
    return _draft(Expanded(network), masks)


def _draft(expanded: Expanded, masks: Mapping[str, Tensor]) -> Draft:
    """Where each neuron of the expanded network comes from: one of those that ``masks`` keep, or nowhere."""
    origin, unlocked = {}, {}
    for name, mask in masks.items():
        kept, new = mask.nonzero().reshape(-1), expanded.new.get(name, 0)
        origin[name] = torch.cat([kept, kept.new_full((new,), NEW)])
        copies = expanded.unlocked.get(name, torch.zeros(len(kept), dtype=torch.bool))
        unlocked[name] = torch.cat([copies, copies.new_zeros(new)])
    return Draft(expanded.network, origin, unlocked)
