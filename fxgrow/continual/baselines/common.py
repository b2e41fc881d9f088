"""What the methods share: how one task is trained, a trunk with modules of each task's own, and what learning took."""

import copy
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from fxgrow.capture import capture
from fxgrow.continual.head import find_head, new_head
from fxgrow.continual.settings import TrainSettings
from fxgrow.continual.strategy import TaskStats
from fxgrow.continual.task import Task, require_learned, require_new
from fxgrow.data import Batches, DataSet, batches
from fxgrow.errors import DataError
from fxgrow.growth import Batch, LossFunction
from fxgrow.surgery import NORM_TYPES
from fxgrow.training import accuracy, cross_entropy, seeded, train_epoch

_EVALUATION_BATCH = 256
_TRAINING_FACTOR = TrainSettings()
AfterStep = Callable[[float], None]


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
    """Train ``network`` in place: all its parameters that require a gradient, or only ``parameters``.

    ``after_step(rate)`` is called after every step with the learning rate of that step. The same seed gives the same
    weights. Raises ``TrainingError`` (``nan-loss``), ``DataError`` (``no-batches``).
    """
    found = shuffled(data, settings.batch_size, torch.Generator().manual_seed(seed))
    chosen = parameters if parameters is not None else network.parameters()
    optimizer = settings.optimizer([parameter for parameter in chosen if parameter.requires_grad])
    total, done = settings.epochs * len(found), 0

    def on_step(*_: float) -> None:
        nonlocal done
        if after_step is not None:
            after_step(settings.learning_rate(done / total))
        done += 1
        settings.set_rate(optimizer, done / total)

    with seeded(seed):
        for _ in range(settings.epochs):
            train_epoch(network, found, loss, optimizer, on_step)


def shuffled(data: DataSet, size: int, generator: torch.Generator) -> Batches:
    """All images in a new order every pass; a last batch of one is left out, batch norm cannot take it."""
    return batches(data, size, shuffle=True, generator=generator, drop_last=len(data) % size == 1)


def endless(data: Batches) -> Iterator[Batch]:
    """Pass after pass. Raises ``DataError`` (``no-batches``) if there is nothing to pass over."""
    if not len(data):
        raise DataError("no-batches", "there are no two images to look at; give at least two")
    while True:
        yield from data


def num_correct(network: nn.Module, data: DataSet) -> float:
    """The share of images that ``network``, in evaluation mode, classifies rightly."""
    return accuracy(network, batches(data, _EVALUATION_BATCH))


def num_parameters(*modules: nn.Module) -> int:
    """The numbers in the parameters of all these modules, those that several of them hold once."""
    return sum(
        each.numel()
        for each in {parameter for module in modules for parameter in module.parameters()}
    )


def norm_parameters(model: nn.Module) -> tuple[str, ...]:
    """The paths of the normalisations that can keep running statistics."""
    return tuple(path for path, module in model.named_modules() if isinstance(module, NORM_TYPES))


@dataclass(frozen=True)
class Stopwatch:
    """The time since a task began to be learnt."""

    wall: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=time.process_time)

    def learnt(self, task: Task, growing_epochs: float = 0.0, **details: Any) -> TaskStats:
        """It is learnt now."""
        seconds, cpu_seconds = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return TaskStats(task.name, growing_epochs, seconds, cpu_seconds, details)


@dataclass(eq=False)
class SharedTrunk:
    """A network of which each task has the modules at ``paths``, the head first, to itself and shares the others.

    ``model`` is the network of the task that was mounted last; ``own``: the modules of every task, path by path.
    """

    model: nn.Module
    paths: tuple[str, ...]
    own: dict[str, dict[str, nn.Module]] = field(default_factory=dict)

    @staticmethod
    def of(
        model: nn.Module, example_inputs: Any, head: str | None, *, own_norms: bool = False
    ) -> "SharedTrunk":
        """Of a copy of ``model``. Raises ``GrowthError`` (``no-head``)."""
        copied = copy.deepcopy(model)
        head = find_head(capture(copied, example_inputs), head)
        return SharedTrunk(copied, (head, *(norm_parameters(copied) if own_norms else ())))

    def add(self, task: Task, seed: int) -> nn.Module:
        """The network of one more task: a new head, and other modules of its own as they are in ``model``."""
        require_new(self.own, task.name)
        self.own[task.name] = {
            path: copy.deepcopy(self.model.get_submodule(path)) for path in self.paths
        }
        network = self.mount(task.name)
        new_head(network, self.paths[0], task.classes, torch.Generator().manual_seed(seed))
        return network

    def mount(self, task: str) -> nn.Module:
        """``model`` with the modules of ``task``: what is trained in it is trained for good."""
        for path, module in self.own[require_learned(self.own, task)].items():
            self.model.set_submodule(path, module)
        return self.model

    def network(self, task: str) -> nn.Module:
        """A copy of the network of ``task``, in evaluation mode. Raises ``DataError`` (``unknown-task``)."""
        mounted = {path: self.model.get_submodule(path) for path in self.paths}
        found = copy.deepcopy(self.mount(task)).eval()
        for path, module in mounted.items():
            self.model.set_submodule(path, module)
        return found

    def shared(self) -> dict[str, nn.Parameter]:
        """The parameters that no task has to itself, by name."""
        own = {
            parameter
            for path in self.paths
            for parameter in self.model.get_submodule(path).parameters()
        }
        return {
            name: parameter
            for name, parameter in self.model.named_parameters()
            if parameter not in own
        }

    @property
    def parameters(self) -> int:
        """The numbers in all parameters, shared and of every task."""
        own = num_parameters(
            *(module for modules in self.own.values() for module in modules.values())
        )
        return own + sum(parameter.numel() for parameter in self.shared().values())
