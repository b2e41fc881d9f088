"""What the baselines that train networks of their own have in common: constructor, head, tasks."""

import copy
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from fxgrow.capture import capture
from fxgrow.continual.baselines.common import SharedTrunk
from fxgrow.continual.head import find_head, new_head
from fxgrow.continual.settings import TrainSettings
from fxgrow.continual.strategy import TaskStats
from fxgrow.continual.task import Task, require_learned, require_new
from fxgrow.timing import Stopwatch

DEFAULT_TRAINING = TrainSettings()

TaskMemory = TypeVar("TaskMemory")
"""What a baseline keeps of every task that it has learned."""


class BaselineStrategy(ABC, Generic[TaskMemory]):
    """A ``Strategy`` that starts from a copy of a model and keeps one record per task.

    A subclass trains in ``_learn`` and reads a network out in ``_task_network``; that a task is
    learned once, that only learned tasks have a network, and the time, are looked after here.

    Args:
        model: the network that the first task starts from; it is copied.
        example_inputs: inputs of the model, as ``fxgrow.capture`` takes them.
        head: path of the layer that gives the class scores; None: the last layer.
        train: how the weights are trained on every task.

    Raises:
        GrowthError: ``no-head`` if there is no single last layer that gives class scores.
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        *,
        head: str | None = None,
        train: TrainSettings = DEFAULT_TRAINING,
    ) -> None:
        # Subclasses may replace it: it is what the next task starts from.
        self._network = copy.deepcopy(model)
        self._inputs = example_inputs
        self._head = find_head(capture(self._network, example_inputs), head)
        self._train = train
        self._tasks: dict[str, TaskMemory] = {}

    @property
    @abstractmethod
    def parameters(self) -> int:
        """All that must be kept to classify the images of every task so far, masks not counted."""

    def learn(self, task: Task, *, seed: int = 0) -> TaskStats:
        """Learn one more task.

        Args:
            task: the images, and how many classes they have.
            seed: decides the new head, the order of the images, and whatever else is drawn.

        Returns:
            What learning took.

        Raises:
            DataError: ``known-task``, ``no-batches``.
            TrainingError: ``nan-loss``.
        """
        stopwatch = Stopwatch.start()
        # Refused before any work is spent.
        require_new(self._tasks, task.name)
        stats = self._learn(task, seed)
        return replace(stats, seconds=stopwatch.seconds, cpu_seconds=stopwatch.cpu_seconds)

    def network(self, task: str) -> nn.Module:
        """Give the network of a task, in evaluation mode; it is a copy.

        Args:
            task: the name of a task that was learned.

        Returns:
            The network, whose head has a row for each class of the task.

        Raises:
            DataError: ``unknown-task``.
        """
        return self._task_network(require_learned(self._tasks, task))

    @abstractmethod
    def _learn(self, task: Task, seed: int) -> TaskStats:
        """Train on a task and record it in ``_tasks``; the seconds are filled in by ``learn``."""

    @abstractmethod
    def _task_network(self, task: str) -> nn.Module:
        """Build the network of a task that is in ``_tasks``."""

    def _with_new_head(self, classes: int, seed: int) -> nn.Module:
        """Copy the network that tasks start from, with a new head for so many classes."""
        network = copy.deepcopy(self._network)
        new_head(network, self._head, classes, torch.Generator().manual_seed(seed))
        return network


class TrunkStrategy(BaselineStrategy[dict[str, nn.Module]]):
    """A baseline that trains one network, of which every task has some modules to itself.

    Args:
        model: the network that the first task starts from; it is copied.
        example_inputs: inputs of the model, as ``fxgrow.capture`` takes them.
        head: path of the layer that gives the class scores; None: the last layer.
        train: how the weights are trained on every task.
    """

    own_norms = False
    """Whether every task has normalizations of its own, besides its head."""

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        *,
        head: str | None = None,
        train: TrainSettings = DEFAULT_TRAINING,
    ) -> None:
        super().__init__(model, example_inputs, head=head, train=train)
        self._trunk = SharedTrunk.of(self._network, self._head, own_norms=self.own_norms)
        # The trunk's book of the tasks is the only one.
        self._tasks = self._trunk.own

    @property
    def parameters(self) -> int:
        """Those of the network, and of every task's own modules."""
        return self._trunk.parameters

    def _task_network(self, task: str) -> nn.Module:
        return self._trunk.network(task)
