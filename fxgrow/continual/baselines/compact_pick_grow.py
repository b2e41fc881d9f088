"""CPG: pick among the weights of earlier tasks, train free ones, grow if that fails, prune.

Reference: Hung et al., "Compacting, Picking and Growing for Unforgetting Continual Learning",
NeurIPS 2019, Sec. 3. Task k computes with two kinds of weights: those that earlier tasks own, which
stay as they are and of which it picks some by a real-valued mask, cut at a threshold
(straight-through; Mallya et al. 2018, "Piggyback"), and those that nobody owns, which it trains. If
its accuracy on the validation images stays below the target, the network is widened and the task
learned again. Then its own weights are pruned by magnitude, layer by layer, a little more at a time
with retraining between, while the accuracy holds; what is pruned is free for later tasks.

How we differ: only weights of convolutions and linear layers but the head are shared; heads,
biases, normalizations (affine parameters and statistics) and all else are each task's own. Widening
is by surgery, new neurons start without effect. Weights that were pruned start the next task with
what weight decay left of them. Accuracy holds if it is no lower than the target or, where training
stayed below that, than what training reached. The picks are not trained again after pruning. By
default growth is by a quarter and retraining by an epoch, where the authors grow by a half and
retrain 20.
"""

import copy
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam

from fxgrow.continual.baselines.base import DEFAULT_TRAINING, BaselineStrategy
from fxgrow.continual.baselines.common import accuracy_on, num_parameters, train_network
from fxgrow.continual.baselines.masked_weight import MaskedWeight, WeightUse, widen_all
from fxgrow.continual.baselines.weights import (
    ComposedNetwork,
    layer_weights,
    with_weights,
    without_weights,
)
from fxgrow.continual.settings import TrainSettings
from fxgrow.continual.strategy import TaskStats
from fxgrow.continual.task import Task
from fxgrow.spec import StrictModel

_Share = Annotated[float, Field(gt=0, le=1)]


class CpgSettings(StrictModel):
    """When to grow and how to prune.

    Args:
        target: the network grows while the accuracy on the validation images is below this.
        factor: how many times as wide the network becomes in one growth.
        growths: how often it grows for one task at most.
        mask_lr: the learning rate of the picks (Adam).
        sparsities: the shares of a task's own weights to prune, one after the other.
        prune_epochs: the epochs of training after each pruning.
        prune_rate: their learning rate, as a multiple of that of the task.
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
    """What is kept of a task.

    Args:
        own: its network, in which the shared weights are empty.
        uses: by name of a shared weight, which entries of it the task uses.
    """

    own: nn.Module
    uses: dict[str, WeightUse]


@dataclass(frozen=True, eq=False)
class PrunedNetwork:
    """The outcome of pruning.

    Args:
        network: with as few own weights as hold the accuracy.
        sparsity: the share of the own weights that was pruned.
        tried: how many sparsities were tried, each with retraining.
    """

    network: ComposedNetwork
    sparsity: float
    tried: int


class CompactPickGrow(BaselineStrategy[CpgTask]):
    """A ``Strategy`` that shares single weights of one network that grows.

    Args:
        model: the network that the first task starts from; it is copied.
        example_inputs: inputs of the model, as ``fxgrow.capture`` takes them.
        head: path of the layer that gives the class scores; None: the last layer.
        train: how the weights are trained on every task.
        settings: when to grow and how to prune.
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        *,
        head: str | None = None,
        train: TrainSettings = DEFAULT_TRAINING,
        settings: CpgSettings = _SETTINGS,
    ) -> None:
        super().__init__(model, example_inputs, head=head, train=train)
        self._settings = settings
        self._names = layer_weights(self._network, self._head)
        # Which entries of each shared weight belong to some task.
        self._owned: dict[str, Tensor] = {}
        for name, weight in self._weights().items():
            self._owned[name] = torch.zeros_like(weight, dtype=torch.bool)

    @property
    def parameters(self) -> int:
        """The weights that some task owns, and what each task has to itself."""
        shared = sum(int(owned.sum()) for owned in self._owned.values())
        return shared + sum(num_parameters(task.own) for task in self._tasks.values())

    def _learn(self, task: Task, seed: int) -> TaskStats:
        network = self._train_picks(task, seed)
        growths = 0
        while self._falls_short(network, task) and growths < self._settings.growths:
            if not self._grow(seed + growths):
                break
            growths += 1
            network = self._train_picks(task, seed)
        # What is pruned now is free for later tasks.
        pruned = self._prune(network, task, seed)
        self._keep(task.name, pruned.network)
        epochs = growths * self._train.epochs + pruned.tried * self._settings.prune_epochs
        details = {
            "growths": growths,
            "sparsity": pruned.sparsity,
            "allocated": num_parameters(self._network),
        }
        return TaskStats(task.name, epochs, details=details)

    def _task_network(self, task: str) -> nn.Module:
        """Build the network of a task, as wide as when it was learned."""
        memory = self._tasks[task]
        shared = self._weights()
        weights = {name: use.of(shared[name]) for name, use in memory.uses.items()}
        return with_weights(memory.own, weights)

    def _weights(self) -> dict[str, nn.Parameter]:
        parameters = dict(self._network.named_parameters())
        return {name: parameters[name] for name in self._names}

    def _falls_short(self, network: ComposedNetwork, task: Task) -> bool:
        return accuracy_on(network, task.valid) < self._settings.target

    def _train_picks(self, task: Task, seed: int) -> ComposedNetwork:
        """Train picks, free weights and what is the task's own, all together."""
        parts: dict[str, MaskedWeight] = {}
        for name, weight in self._weights().items():
            parts[name] = MaskedWeight(weight, self._owned[name])
        network = ComposedNetwork(self._with_new_head(task.classes, seed), parts)
        scores = [part.scores for part in parts.values()]
        # Compared by identity: == on tensors compares their values.
        score_ids = {id(score) for score in scores}
        others = [weight for weight in network.parameters() if id(weight) not in score_ids]
        # In a group of its own the list may be empty, which Adam refuses otherwise.
        picker = Adam([{"params": scores}], lr=self._settings.mask_lr)

        def pick(_: float) -> None:
            picker.step()
            picker.zero_grad()

        train_network(
            network, task.train, self._train, seed=seed, after_step=pick, parameters=others
        )
        # From here on the picks are fixed: pruning retrains the own weights alone.
        for score in scores:
            score.requires_grad = False
        return network

    def _grow(self, seed: int) -> bool:
        """Widen all that can grow; False if nothing can."""
        wider = widen_all(self._network, self._inputs, self._settings.factor, seed)
        if wider is None:
            return False
        for name in self._names:
            maps = {axis: index_map for (other, axis), index_map in wider.index_maps.items()
                    if other == name}  # fmt: skip
            for axis, index_map in maps.items():
                # New entries are zero, that is False: nobody owns them.
                self._owned[name] = index_map.apply(self._owned[name], axis)
            # Earlier tasks go on computing with the entries that they know.
            for memory in self._tasks.values():
                memory.uses[name] = memory.uses[name].moved(maps)
        self._network = wider.module
        return True

    def _prune(self, network: ComposedNetwork, task: Task, seed: int) -> PrunedNetwork:
        """Prune more and more own weights, until the accuracy falls."""
        floor = min(self._settings.target, accuracy_on(network, task.valid))
        retraining = {
            "epochs": self._settings.prune_epochs,
            "lr": self._train.lr * self._settings.prune_rate,
        }
        train = self._train.model_copy(update=retraining)
        best, reached = network, 0.0
        for tried, sparsity in enumerate(self._settings.sparsities, 1):
            candidate = copy.deepcopy(best)
            for part in _masked_weights(candidate):
                part.prune(sparsity)
            train_network(candidate, task.train, train, seed=seed + tried)
            # The last network that held the accuracy is the result.
            if accuracy_on(candidate, task.valid) < floor:
                return PrunedNetwork(best, reached, tried)
            best, reached = candidate, sparsity
        return PrunedNetwork(best, reached, len(self._settings.sparsities))

    @torch.no_grad()
    def _keep(self, task: str, network: ComposedNetwork) -> None:
        """Give the task its own weights; the others start the next task as they are now."""
        uses: dict[str, WeightUse] = {}
        plain = network.plain()
        weights = dict(plain.named_parameters())
        for name, part in zip(network.names, _masked_weights(network), strict=True):
            uses[name] = WeightUse.of_all(part.used())
            weights[name].data = part.merged()
            self._owned[name] = self._owned[name] | part.own_mask
        self._tasks[task] = CpgTask(without_weights(plain, self._names), uses)
        self._network = plain


def _masked_weights(network: ComposedNetwork) -> list[MaskedWeight]:
    return [part for part in network.parts if isinstance(part, MaskedWeight)]
