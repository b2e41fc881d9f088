"""What the baselines share: training on one task, a trunk with modules of each task's own."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from fxgrow.continual.fit import AfterStep, train_epochs
from fxgrow.continual.head import new_head
from fxgrow.continual.settings import TrainSettings
from fxgrow.continual.task import Task, require_learned, require_new
from fxgrow.data import DataSet, batches
from fxgrow.errors import DataError
from fxgrow.growth import LossFunction
from fxgrow.surgery import NORM_TYPES
from fxgrow.training import (
    EVALUATION_BATCH,
    accuracy,
    cross_entropy,
    seeded,
    shuffled,
)


def train_network(
    network: nn.Module,
    data: DataSet,
    settings: TrainSettings,
    *,
    seed: int,
    loss: LossFunction = cross_entropy,
    after_step: AfterStep | None = None,
    parameters: Iterable[nn.Parameter] | None = None,
) -> None:
    """Train a network in place; the same seed gives the same weights.

    Args:
        network: the network; its parameters that do not require a gradient stay as they are.
        data: images and labels, shuffled anew for every epoch.
        settings: the length of the training, the batch size, and the settings of SGD.
        seed: decides the order of the images and what layers such as dropout draw.
        loss: of the network's output and the labels.
        after_step: called after every step with the learning rate of that step.
        parameters: train only these; None: all of the network.

    Raises:
        TrainingError: ``nan-loss`` if the loss is no finite number.
        DataError: ``no-batches`` if there are fewer than two images.
    """
    if len(data) < 2:
        # Batch norm cannot train on a batch of one, so it would be left out.
        raise DataError(
            "no-batches",
            "there is no image to train on, as a batch of one is left out; give at least two",
        )
    train_batches = shuffled(data, settings.batch_size, torch.Generator().manual_seed(seed))
    candidates = network.parameters() if parameters is None else parameters
    optimizer = settings.optimizer([weight for weight in candidates if weight.requires_grad])
    # Dropout and its like draw from torch's own generator.
    with seeded(seed):
        train_epochs(network, train_batches, loss, settings, optimizer, after_step)


def accuracy_on(network: nn.Module, data: DataSet) -> float:
    """Measure the share of images that a network, in evaluation mode, classifies correctly.

    Args:
        network: a classifier.
        data: images and labels.

    Returns:
        A number from 0 to 1.
    """
    return accuracy(network, batches(data, EVALUATION_BATCH))


def num_parameters(*modules: nn.Module) -> int:
    """Count the numbers in all parameters of these modules; a shared parameter counts once."""
    # A parameter hashes by identity, so a set holds a shared one once.
    counted: set[nn.Parameter] = set()
    for module in modules:
        counted.update(module.parameters())
    return sum(parameter.numel() for parameter in counted)


def norm_paths(model: nn.Module) -> tuple[str, ...]:
    """List the paths of the normalizations that can keep running statistics."""
    modules = model.named_modules()
    return tuple(path for path, module in modules if isinstance(module, NORM_TYPES))


@dataclass(eq=False)
class SharedTrunk:
    """A network of which every task has some modules to itself and shares the others.

    Args:
        model: the network; in it are the modules of the task that was mounted last.
        paths: where the modules lie that each task has to itself, the head first.
        own: for every task those modules, by path.
    """

    model: nn.Module
    paths: tuple[str, ...]
    own: dict[str, dict[str, nn.Module]] = field(default_factory=dict)

    @staticmethod
    def of(model: nn.Module, head: str, *, own_norms: bool = False) -> "SharedTrunk":
        """Start from a model, which is not copied.

        Args:
            model: the network.
            head: the path of its head.
            own_norms: whether every task also has normalizations of its own.

        Returns:
            A trunk that no task uses yet.
        """
        norms = norm_paths(model) if own_norms else ()
        return SharedTrunk(model, (head, *norms))

    def add(self, task: Task, seed: int) -> nn.Module:
        """Give one more task modules of its own: a new head, and copies of the others.

        Args:
            task: the task; its number of classes is that of the new head's rows.
            seed: decides the weights of the new head.

        Returns:
            The trunk's network, with the modules of the task in it.

        Raises:
            DataError: ``known-task``.
        """
        require_new(self.own, task.name)
        modules: dict[str, nn.Module] = {}
        for path in self.paths:
            # What the last task ended with is where this one starts.
            modules[path] = copy.deepcopy(self.model.get_submodule(path))
        self.own[task.name] = modules
        network = self.mount(task.name)
        new_head(network, self.paths[0], task.classes, torch.Generator().manual_seed(seed))
        return network

    @contextmanager
    def learning(self, task: Task, seed: int) -> Iterator[nn.Module]:
        """Add a task for the length of a ``with`` block, which trains it.

        If the block fails, the trunk is as it was, so that the task can be learned again.

        Args:
            task: the task; its number of classes is that of the new head's rows.
            seed: decides the weights of the new head.

        Yields:
            The trunk's network, with the modules of the task in it.

        Raises:
            DataError: ``known-task``.

        """
        require_new(self.own, task.name)
        mounted = {path: self.model.get_submodule(path) for path in self.paths}
        state = copy.deepcopy(self.model.state_dict())
        try:
            yield self.add(task, seed)
        except BaseException:  # an interrupt, too
            self.own.pop(task.name, None)
            for path, module in mounted.items():
                self.model.set_submodule(path, module)
            self.model.load_state_dict(state)
            raise

    def mount(self, task: str) -> nn.Module:
        """Put the modules of a task into the network; training then trains them for good."""
        for path, module in self.own[require_learned(self.own, task)].items():
            self.model.set_submodule(path, module)
        return self.model

    def network(self, task: str) -> nn.Module:
        """Copy the network of a task, in evaluation mode; what is mounted stays mounted.

        Args:
            task: the name of a task that was added.

        Returns:
            The copy.

        Raises:
            DataError: ``unknown-task``.
        """
        # Only one task is in the network at a time: what was there comes back afterwards.
        mounted = {path: self.model.get_submodule(path) for path in self.paths}
        network = copy.deepcopy(self.mount(task)).eval()
        for path, module in mounted.items():
            self.model.set_submodule(path, module)
        return network

    def shared(self) -> dict[str, nn.Parameter]:
        """List the parameters that no task has to itself, by name."""
        # By identity, not by name: a weight of the head may be tied to a shared layer.
        own: set[nn.Parameter] = set()
        for path in self.paths:
            own.update(self.model.get_submodule(path).parameters())
        named = self.model.named_parameters()
        return {name: parameter for name, parameter in named if parameter not in own}

    @property
    def parameters(self) -> int:
        """The numbers in all parameters: the shared ones, and those of every task."""
        own_modules: list[nn.Module] = []
        for modules in self.own.values():
            own_modules.extend(modules.values())
        shared = sum(parameter.numel() for parameter in self.shared().values())
        return num_parameters(*own_modules) + shared
