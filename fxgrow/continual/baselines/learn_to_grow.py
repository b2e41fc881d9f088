"""Learn to Grow: every layer of a new task reuses, adapts or is new, as a short search finds.

Reference: Li et al., "Learn to Grow: A Continual Structure Learning Framework for Overcoming Catastrophic Forgetting",
ICML 2019, Sec. 3. For every layer there are as many versions as earlier tasks made. In the search a layer computes the
softmax mixture of its choices; their weights descend on training batches and the preferences on validation batches, in
turn and to first order (Liu et al. 2019, "DARTS"), on the loss plus a price of the parameters that are added. The
preferred choice of each layer is then trained. Old versions stay as they are, so nothing is forgotten.

How we differ: layers are convolutions and linear layers but the head, and only their weights are chosen; heads, biases,
normalisations (affine parameters and statistics) and all else are each task's own. Weights are mixed instead of
outputs, which is the same. Adapters of linear layers and 1 x 1 convolutions have a low rank, as a full one would cost
as much as a new layer. New layers start as copies of the last version. The price is ``price`` times the share of the
layers' weights that is added in the mean; its default, the rank and the length of the search are ours.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam

from fxgrow.capture import capture
from fxgrow.continual.baselines.common import (
    _TRAINING_FACTOR,
    Stopwatch,
    endless,
    num_parameters,
    shuffled,
    train_network,
)
from fxgrow.continual.baselines.layer_choices import (
    LayerMixture,
    NewVersion,
    ReusedVersion,
    layer_options,
)
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
from fxgrow.training import cross_entropy


class LtgSettings(StrictModel):
    """``epochs``: of the search; ``lr``: of the preferences (Adam, as DARTS); ``rank``: of low-rank adapters."""

    epochs: int = Field(default=5, ge=1)
    lr: float = Field(default=3e-4, gt=0)
    price: float = Field(default=0.1, ge=0)
    rank: int = Field(default=4, ge=1)


_SETTINGS = LtgSettings()


@dataclass(frozen=True, eq=False)
class LtgTask:
    """What is kept of a task: its network without the layers' weights, and the number of each layer's version."""

    own: nn.Module
    versions: dict[str, int]


class LearnToGrow:
    """A ``Learner`` that chooses layer by layer. Raises ``GrowthError`` (``no-head``)."""

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        *,
        head: str | None = None,
        train: TrainSettings = _TRAINING_FACTOR,
        settings: LtgSettings = _SETTINGS,
    ) -> None:
        self._network = copy.deepcopy(model)
        self._head = find_head(capture(self._network, example_inputs), head)
        self._train = train
        self._settings = settings
        self._versions: dict[str, list[Tensor]] = {
            name: [] for name in layer_weights(self._network, self._head)
        }
        self._added = 0
        self._tasks: dict[str, LtgTask] = {}

    @property
    def parameters(self) -> int:
        """What the versions of all layers added, adapters counted as such, and what each task has to itself."""
        return self._added + sum(num_parameters(kept.own) for kept in self._tasks.values())

    def learn(self, task: Task, *, seed: int = 0) -> TaskStats:
        """Raises ``DataError`` (``known-task``, ``no-batches``), ``TrainingError`` (``nan-loss``)."""
        clock = Stopwatch()
        require_new(self._tasks, task.name)
        network = copy.deepcopy(self._network)
        new_head(network, self._head, task.classes, torch.Generator().manual_seed(seed))
        searches = bool(self._tasks and self._versions)
        chosen = self._searched(network, task, seed) if searches else self._first()
        found = ComposedNetwork(network, chosen)
        train_network(found, task.train, self._train, seed=seed)
        self._keep(task.name, found)
        kinds = {name: type(part).__name__.lower() for name, part in chosen.items()}
        return clock.learnt(task, self._settings.epochs * searches, choices=kinds)

    def network(self, task: str) -> nn.Module:
        """A new network of the versions that ``task`` uses. Raises ``DataError`` (``unknown-task``)."""
        kept = self._tasks[require_learned(self._tasks, task)]
        return with_weights(
            kept.own, {name: self._versions[name][number] for name, number in kept.versions.items()}
        )

    def _first(self) -> dict[str, nn.Module]:
        parameters = dict(self._network.named_parameters())
        return {name: NewVersion(parameters[name].detach()) for name in self._versions}

    def _choices(self, seed: int) -> dict[str, list[nn.Module]]:
        generator = torch.Generator().manual_seed(seed)
        return {
            name: layer_options(found, self._settings.rank, generator)
            for name, found in self._versions.items()
        }

    def _searched(self, network: nn.Module, task: Task, seed: int) -> dict[str, nn.Module]:
        """The preferred choice of every layer, as it was before the search."""
        mixtures = {name: LayerMixture(options) for name, options in self._choices(seed).items()}
        search_layers(
            ComposedNetwork(network, mixtures),
            list(mixtures.values()),
            task,
            self._train,
            self._settings,
            seed,
        )
        return {name: options[mixtures[name].best] for name, options in self._choices(seed).items()}

    @torch.no_grad()
    def _keep(self, task: str, found: ComposedNetwork) -> None:
        """What was reused gets no new version; what was trained is one from now on."""
        numbers = {}
        for name, part in zip(found.names, found.parts, strict=True):
            versions = self._versions[name]
            if isinstance(part, ReusedVersion):
                numbers[name] = next(
                    number for number, version in enumerate(versions) if version is part.weight
                )
            else:
                numbers[name] = len(versions)
                versions.append(part().detach().clone())
            self._added += num_parameters(part)
        self._network = found.plain()
        self._tasks[task] = LtgTask(without_weights(self._network, found.names), numbers)


def search_layers(
    network: ComposedNetwork,
    mixtures: list[LayerMixture],
    task: Task,
    train: TrainSettings,
    settings: LtgSettings,
    seed: int,
) -> None:
    """Train the mixtures and all else of ``network`` in place, preferences on validation batches after every step."""
    preferences = [mixture.preference for mixture in mixtures]
    judges = endless(
        shuffled(task.valid, train.batch_size, torch.Generator().manual_seed(seed + 1))
    )
    architect = Adam(preferences, lr=settings.lr, betas=(0.5, 0.999))
    whole = sum(mixture().numel() for mixture in mixtures)

    def prefer(_: float) -> None:
        images, labels = next(judges)
        added = torch.stack([mixture.added() for mixture in mixtures]).sum()
        loss = cross_entropy(network(images), labels) + settings.price * added / whole
        for preference, gradient in zip(
            preferences, torch.autograd.grad(loss, preferences), strict=True
        ):
            preference.grad = gradient
        architect.step()

    weights = [
        p for p in network.parameters() if not any(p is preference for preference in preferences)
    ]
    short = train.model_copy(update={"epochs": settings.epochs})
    train_network(network, task.train, short, seed=seed, after_step=prefer, parameters=weights)
