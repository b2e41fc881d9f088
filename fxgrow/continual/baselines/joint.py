"""All tasks so far trained together: nothing is forgotten, because nothing is put away; the upper bound of the others.

Reference: Caruana, "Multitask Learning", Machine Learning 28, 1997; Li, Hoiem, "Learning without Forgetting", ECCV
2016, Fig. 2 (d), "Joint training". It breaks the rule that images of earlier tasks are never seen again: it keeps them
all. How we differ: batches mix the tasks, an image's loss sees the classes of its own task only, and with every task
the training begins anew from the given model. Normalisations are shared by all tasks.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from fxgrow.capture import capture
from fxgrow.continual.baselines.common import (
    _TRAINING_FACTOR,
    Stopwatch,
    num_parameters,
    train_network,
)
from fxgrow.continual.head import find_head, new_head
from fxgrow.continual.settings import TrainSettings
from fxgrow.continual.strategy import TaskStats
from fxgrow.continual.task import Task, require_learned, require_new
from fxgrow.data import DataSet
from fxgrow.surgery import sync_size_attributes
from fxgrow.training import cross_entropy, logits


class Joint:
    """A ``Learner`` that trains a copy of ``model`` on all images so far. Raises ``GrowthError`` (``no-head``)."""

    keeps_images = True

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        *,
        head: str | None = None,
        train: TrainSettings = _TRAINING_FACTOR,
    ) -> None:
        self._model = copy.deepcopy(model)
        self._head = find_head(capture(self._model, example_inputs), head)
        self._train = train
        self._tasks: dict[str, Task] = {}
        self._network = self._model

    @property
    def parameters(self) -> int:
        """Those of the network, whose head has the classes of all tasks; the images that it keeps are not counted."""
        return num_parameters(self._network)

    def learn(self, task: Task, *, seed: int = 0) -> TaskStats:
        """Raises ``DataError`` (``known-task``, ``no-batches``), ``TrainingError`` (``nan-loss``)."""
        clock = Stopwatch()
        require_new(self._tasks, task.name)
        tasks = {**self._tasks, task.name: task}
        network = copy.deepcopy(self._model)
        owner = _owners(tasks)
        new_head(network, self._head, len(owner), torch.Generator().manual_seed(seed))

        def loss(output: Any, target: Tensor) -> Tensor:
            scores = logits(output)
            foreign = owner.to(target.device)[target][:, None] != owner.to(target.device)
            return cross_entropy(scores.masked_fill(foreign, -torch.inf), target)

        data = _union(tasks)
        train_network(network, data, self._train, seed=seed, loss=loss)
        self._tasks, self._network = tasks, network
        return clock.learnt(task, images=len(data))

    def network(self, task: str) -> nn.Module:
        """A copy of the network with the rows of ``task`` in its head. Raises ``DataError`` (``unknown-task``)."""
        number = list(self._tasks).index(require_learned(self._tasks, task))
        found = copy.deepcopy(self._network).eval()
        layer = found.get_submodule(self._head)
        rows = _owners(self._tasks) == number
        for parameter in layer.parameters(recurse=False):
            parameter.data = parameter.data[rows.to(parameter.device)]
        sync_size_attributes(layer)
        return found


def _owners(tasks: dict[str, Task]) -> Tensor:
    """For each class of all tasks, one task after the other: the number of its task."""
    classes = torch.tensor([task.classes for task in tasks.values()])
    return torch.arange(len(tasks)).repeat_interleave(classes)


def _union(tasks: dict[str, Task]) -> DataSet:
    """All training images; the classes of a task are numbered after those of the tasks before it."""
    before, images, labels = 0, [], []
    for task in tasks.values():
        images.append(task.train.images)
        labels.append(task.train.labels + before)
        before += task.classes
    return DataSet(torch.cat(images), torch.cat(labels))
