"""Learn to Grow: every layer of a new task reuses, adapts or is new, as a short search decides.

Reference: Li et al., "Learn to Grow: A Continual Structure Learning Framework for Overcoming
Catastrophic Forgetting", ICML 2019, Sec. 3. For every layer there are as many versions as earlier
tasks made. In the search a layer computes the softmax mixture of its choices; their weights descend
on training batches and the preferences on validation batches, in turn and to first order (Liu et
al. 2019, "DARTS"), on the loss plus a price of the parameters that are added. The preferred choice
of each layer is then trained. Old versions stay as they are, so nothing is forgotten.

How we differ: layers are convolutions and linear layers but the head, and only their weights are
chosen; heads, biases, normalizations (affine parameters and statistics) and all else are each
task's own. Weights are mixed instead of outputs, which is the same. Adapters of linear layers and
1 x 1 convolutions have a low rank, as a full one would cost as much as a new layer. New layers
start as copies of the last version. The price is ``price`` times the share of the layers' weights
that is added in the mean; its default, the rank and the length of the search are ours.
"""

from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam

from fxgrow.continual.baselines.base import DEFAULT_TRAINING, BaselineStrategy
from fxgrow.continual.baselines.common import num_parameters, train_network
from fxgrow.continual.baselines.layer_choices import (
    LayerChoice,
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
from fxgrow.continual.settings import TrainSettings
from fxgrow.continual.strategy import TaskStats
from fxgrow.continual.task import Task
from fxgrow.spec import StrictModel
from fxgrow.training import cross_entropy, endless, shuffled

_ARCHITECT_BETAS = (0.5, 0.999)
"""Of Adam on the preferences, those of DARTS."""


class LtgSettings(StrictModel):
    """How long and at what price to search.

    Args:
        epochs: the epochs of the search.
        lr: the learning rate of the preferences (Adam, as in DARTS).
        price: what it costs, in units of the loss, to add as many weights as the layers have.
        rank: the rank of low-rank adapters.
    """

    epochs: int = Field(default=5, ge=1)
    lr: float = Field(default=3e-4, gt=0)
    price: float = Field(default=0.1, ge=0)
    rank: int = Field(default=4, ge=1)


_SETTINGS = LtgSettings()


@dataclass(frozen=True, eq=False)
class LtgTask:
    """What is kept of a task.

    Args:
        own: its network, in which the layers' weights are empty.
        versions: by name of a layer's weight, the number of the version that the task uses.
    """

    own: nn.Module
    versions: dict[str, int]


class LearnToGrow(BaselineStrategy[LtgTask]):
    """A ``Strategy`` that decides layer by layer what a new task reuses, adapts and adds.

    Args:
        model: the network that the first task starts from; it is copied.
        example_inputs: inputs of the model, as ``fxgrow.capture`` takes them.
        head: path of the layer that gives the class scores; None: the last layer.
        train: how the weights are trained on every task.
        settings: how long and at what price to search.
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        *,
        head: str | None = None,
        train: TrainSettings = DEFAULT_TRAINING,
        settings: LtgSettings = _SETTINGS,
    ) -> None:
        super().__init__(model, example_inputs, head=head, train=train)
        self._settings = settings
        self._versions: dict[str, list[Tensor]] = {}
        for name in layer_weights(self._network, self._head):
            self._versions[name] = []
        self._added = 0

    @property
    def parameters(self) -> int:
        """What the versions of all layers added, and what each task has to itself.

        An adapted version counts as its adapter.
        """
        return self._added + sum(num_parameters(task.own) for task in self._tasks.values())

    def _learn(self, task: Task, seed: int) -> TaskStats:
        network = self._with_new_head(task.classes, seed)
        # The first task has no version to choose from, nor has a network that is all head.
        searches = bool(self._tasks and self._versions)
        chosen = self._search(network, task, seed) if searches else self._first_choices()
        # Reused versions are buffers and stay; what is adapted or new is trained.
        composed = ComposedNetwork(network, chosen)
        train_network(composed, task.train, self._train, seed=seed)
        self._keep(task.name, composed)
        kinds = {name: choice.kind for name, choice in chosen.items()}
        epochs = self._settings.epochs if searches else 0
        return TaskStats(task.name, epochs, details={"choices": kinds})

    def _task_network(self, task: str) -> nn.Module:
        """Build a network of the versions that the task uses."""
        memory = self._tasks[task]
        weights: dict[str, Tensor] = {}
        for name, number in memory.versions.items():
            weights[name] = self._versions[name][number]
        return with_weights(memory.own, weights)

    def _first_choices(self) -> dict[str, LayerChoice]:
        """Make every layer new, starting from the given model's weights."""
        parameters = dict(self._network.named_parameters())
        return {name: NewVersion(parameters[name].detach()) for name in self._versions}

    def _options(self, seed: int) -> dict[str, list[LayerChoice]]:
        """List what every layer may do; the same seed gives the same weights."""
        generator = torch.Generator().manual_seed(seed)
        options: dict[str, list[LayerChoice]] = {}
        for name, versions in self._versions.items():
            options[name] = layer_options(versions, self._settings.rank, generator)
        return options

    def _search(self, network: nn.Module, task: Task, seed: int) -> dict[str, LayerChoice]:
        """Find the preferred choice of every layer, and give it as it was before the search."""
        mixtures: dict[str, LayerMixture] = {}
        for name, options in self._options(seed).items():
            mixtures[name] = LayerMixture(options)
        composed = ComposedNetwork(network, mixtures)
        ordered = list(mixtures.values())
        search_layers(composed, ordered, task, self._train, self._settings, seed)
        # The options are drawn once more, as the search has trained the first ones.
        untrained = self._options(seed)
        return {name: options[mixtures[name].best] for name, options in untrained.items()}

    @torch.no_grad()
    def _keep(self, task: str, network: ComposedNetwork) -> None:
        """Record the task: what was reused gets no new version, what was trained becomes one."""
        numbers: dict[str, int] = {}
        for name, part in zip(network.names, network.parts, strict=True):
            versions = self._versions[name]
            # The buffer of a reused part is the very tensor in the list of versions.
            if isinstance(part, ReusedVersion):
                numbers[name] = _index_of(versions, part.weight)
            else:
                numbers[name] = len(versions)
                # An adapted weight is stored in full, so that later tasks can build on it.
                versions.append(part().detach().clone())
            self._added += num_parameters(part)
        self._network = network.plain()
        self._tasks[task] = LtgTask(without_weights(self._network, network.names), numbers)


def _index_of(versions: list[Tensor], wanted: Tensor) -> int:
    """The place of a version, told by identity: == on tensors would compare their values."""
    ids = [id(version) for version in versions]
    return ids.index(id(wanted))


def search_layers(
    network: ComposedNetwork,
    mixtures: list[LayerMixture],
    task: Task,
    train: TrainSettings,
    settings: LtgSettings,
    seed: int,
) -> None:
    """Train mixtures and all else of a network in place, preferences on validation batches.

    A step on the preferences follows every step on the weights.

    Args:
        network: the network whose weights the mixtures give.
        mixtures: one per layer.
        task: whose training images train the weights, and whose validation images the preferences.
        train: how the weights are trained, but for the epochs.
        settings: the settings of the search.
        seed: decides the order of the images.

    Raises:
        DataError: ``no-batches`` if there are fewer than two images to train or to validate on.
        TrainingError: ``nan-loss``.
    """
    preferences = [mixture.preference for mixture in mixtures]
    generator = torch.Generator().manual_seed(seed + 1)
    valid_batches = endless(shuffled(task.valid, train.batch_size, generator))
    architect = Adam(preferences, lr=settings.lr, betas=_ARCHITECT_BETAS)
    num_weights = sum(mixture().numel() for mixture in mixtures)

    def step_preferences(_: float) -> None:
        images, labels = next(valid_batches)
        added = torch.stack([mixture.added() for mixture in mixtures]).sum()
        loss = cross_entropy(network(images), labels) + settings.price * added / num_weights
        # By autograd.grad, so that the weights' own gradients are left alone.
        gradients = torch.autograd.grad(loss, preferences)
        for preference, gradient in zip(preferences, gradients, strict=True):
            preference.grad = gradient
        architect.step()

    preference_ids = {id(preference) for preference in preferences}
    weights = [weight for weight in network.parameters() if id(weight) not in preference_ids]
    # The weights are trained as ever; after each of their steps the preferences make one.
    short = train.model_copy(update={"epochs": settings.epochs})
    train_network(
        network, task.train, short, seed=seed, after_step=step_preferences, parameters=weights
    )
