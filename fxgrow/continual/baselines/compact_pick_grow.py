"""CPG: pick among the weights of earlier tasks, train those that are free, grow if that is not enough, prune.

Reference: Hung et al., "Compacting, Picking and Growing for Unforgetting Continual Learning", NeurIPS 2019, Sec. 3.
Task k computes with two kinds of weights: those that earlier tasks own, which stay as they are and of which it picks
some by a real-valued mask, cut at a threshold (straight-through; Mallya et al. 2018, "Piggyback"), and those that
nobody owns, which it trains. If its accuracy on the validation images stays below the target, the network is widened
and the task learnt again. Then its own weights are pruned by magnitude, layer by layer, a little more at a time with
retraining between, while the accuracy holds; what is pruned is free for later tasks.

How we differ: only weights of convolutions and linear layers but the head are shared; heads, biases, normalisations
(affine parameters and statistics) and all else are each task's own. Widening is by surgery, new neurons start without
effect. Weights that were pruned start the next task with what weight decay left of them. Accuracy holds if it is no
lower than the target or, where training stayed below that, than what training reached. The picks are not trained again
after pruning. By default growth is by a quarter and retraining by an epoch, where the authors grow by a half and
retrain 20.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn
from torch.optim import Adam

from fxgrow.capture import capture
from fxgrow.continual.baselines.common import (
    _TRAINING_FACTOR,
    Stopwatch,
    num_correct,
    num_parameters,
    train_network,
)
from fxgrow.continual.baselines.masked_weight import MaskedWeight, WeightUse, widen_mask
from fxgrow.continual.baselines.weights import (
    ComposedNetwork,
    layer_weights,
    with_weights,
    without_weights,
)
from fxgrow.continual.head import find_head, new_head
from fxgrow.continual.settings import TrainSettings
from fxgrow.continual.strategy import TaskStats
from fxgrow.continual.task import Task, require_learned, require_new
from fxgrow.spec import StrictModel

_Share = Annotated[float, Field(gt=0, le=1)]


class CpgSettings(StrictModel):
    """When to grow and how to prune.

    Below the accuracy ``target`` on validation images the network grows by ``factor``, at most ``growths`` times a
    task. ``mask_lr``: of the picks (Adam). ``sparsities``: the shares of a task's own weights to prune, one after the
    other, each followed by ``prune_epochs`` of training at ``prune_rate`` times the learning rate.
    """

    target: float = Field(default=0.9, ge=0, le=1)
    factor: float = Field(default=1.25, gt=1)
    growths: int = Field(default=2, ge=0)
    mask_lr: float = Field(default=5e-4, gt=0)
    sparsities: tuple[_Share, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    prune_epochs: int = Field(default=1, ge=1)
    prune_rate: float = Field(default=0.1, gt=0)


_SETTINGS = CpgSettings()


@dataclass(frozen=True, eq=False)
class CpgTask:
    """What is kept of a task: its network without the shared weights, and which of those it uses, by name."""

    own: nn.Module
    uses: dict[str, WeightUse]


class CompactPickGrow:
    """A ``Learner`` that shares the weights of one network. Raises ``GrowthError`` (``no-head``)."""

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        *,
        head: str | None = None,
        train: TrainSettings = _TRAINING_FACTOR,
        settings: CpgSettings = _SETTINGS,
    ) -> None:
        self._network = copy.deepcopy(model)
        self._inputs = example_inputs
        self._head = find_head(capture(self._network, example_inputs), head)
        self._train = train
        self._settings = settings
        self._names = layer_weights(self._network, self._head)
        self._owned = {
            name: torch.zeros_like(weight, dtype=torch.bool)
            for name, weight in self._weights().items()
        }
        self._tasks: dict[str, CpgTask] = {}

    @property
    def parameters(self) -> int:
        """The weights that some task owns, and what each task has to itself."""
        shared = sum(int(owned.sum()) for owned in self._owned.values())
        return shared + sum(num_parameters(kept.own) for kept in self._tasks.values())

    def learn(self, task: Task, *, seed: int = 0) -> TaskStats:
        """Raises ``DataError`` (``known-task``, ``no-batches``), ``TrainingError`` (``nan-loss``)."""
        clock = Stopwatch()
        require_new(self._tasks, task.name)
        found = self._trained(task, seed)
        growths = 0
        while (
            num_correct(found, task.valid) < self._settings.target
            and growths < self._settings.growths
        ):
            if not self._grown(seed + growths):
                break
            growths += 1
            found = self._trained(task, seed)
        found, sparsity, pruned = self._pruned(found, task, seed)
        self._keep(task.name, found)
        epochs = growths * self._train.epochs + pruned * self._settings.prune_epochs
        return clock.learnt(
            task,
            epochs,
            growths=growths,
            sparsity=sparsity,
            allocated=num_parameters(self._network),
        )

    def network(self, task: str) -> nn.Module:
        """A new network for ``task``, as wide as when it was learnt. Raises ``DataError`` (``unknown-task``)."""
        kept, weights = self._tasks[require_learned(self._tasks, task)], self._weights()
        return with_weights(
            kept.own, {name: use.of(weights[name]) for name, use in kept.uses.items()}
        )

    def _weights(self) -> dict[str, nn.Parameter]:
        parameters = dict(self._network.named_parameters())
        return {name: parameters[name] for name in self._names}

    def _trained(self, task: Task, seed: int) -> ComposedNetwork:
        """Picks, free weights and what is the task's own, trained together."""
        network = copy.deepcopy(self._network)
        new_head(network, self._head, task.classes, torch.Generator().manual_seed(seed))
        parts = {
            name: MaskedWeight(weight, self._owned[name])
            for name, weight in self._weights().items()
        }
        found = ComposedNetwork(network, parts)
        scores = [part.scores for part in parts.values()]
        others = [
            parameter
            for parameter in found.parameters()
            if not any(parameter is each for each in scores)
        ]
        picker = Adam([{"params": scores}], lr=self._settings.mask_lr)  # a group may be empty

        def pick(_: float) -> None:
            picker.step()
            picker.zero_grad()

        train_network(found, task.train, self._train, seed=seed, after_step=pick, parameters=others)
        for part in parts.values():
            part.scores.requires_grad = False
        return found

    def _grown(self, seed: int) -> bool:
        """Widen all that can grow; False if nothing can."""
        wider = widen_mask(self._network, self._inputs, self._settings.factor, seed)
        if wider is None:
            return False
        for name in self._names:
            maps = {
                axis: found for (other, axis), found in wider.index_maps.items() if other == name
            }
            for axis, found in maps.items():
                self._owned[name] = found.apply(self._owned[name], axis)
            for kept in self._tasks.values():
                kept.uses[name] = kept.uses[name].moved(maps)
        self._network = wider.module
        return True

    def _pruned(
        self, found: ComposedNetwork, task: Task, seed: int
    ) -> tuple[ComposedNetwork, float, int]:
        """With as few own weights as hold the accuracy: the network, the share pruned, and how many were tried."""
        floor = min(self._settings.target, num_correct(found, task.valid))
        gentle = {
            "epochs": self._settings.prune_epochs,
            "lr": self._train.lr * self._settings.prune_rate,
        }
        train = self._train.model_copy(update=gentle)
        best, reached = found, 0.0
        for tried, sparsity in enumerate(self._settings.sparsities, 1):
            found = copy.deepcopy(best)
            for part in _picked(found):
                part.prune(sparsity)
            train_network(found, task.train, train, seed=seed + tried)
            if num_correct(found, task.valid) < floor:
                return best, reached, tried
            best, reached = found, sparsity
        return best, reached, len(self._settings.sparsities)

    @torch.no_grad()
    def _keep(self, task: str, found: ComposedNetwork) -> None:
        """The own weights of ``task`` are owned from now on, the others start the next task as they are now."""
        uses = {}
        network = found.plain()
        weights = dict(network.named_parameters())
        for name, part in zip(found.names, _picked(found), strict=True):
            uses[name] = WeightUse.of_all(part.used())
            weights[name].data = part.merged()
            self._owned[name] = self._owned[name] | part.mine
        self._tasks[task] = CpgTask(without_weights(network, self._names), uses)
        self._network = network


def _picked(found: ComposedNetwork) -> Sequence[MaskedWeight]:
    return [part for part in found.parts if isinstance(part, MaskedWeight)]
