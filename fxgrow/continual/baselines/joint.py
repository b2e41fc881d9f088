"""All tasks so far trained together: nothing is forgotten, the upper bound of the others.

Reference: Caruana, "Multitask Learning", Machine Learning 28, 1997; Li, Hoiem, "Learning without
Forgetting", ECCV 2016, Fig. 2 (d), "Joint training". It breaks the rule that images of earlier
tasks are never seen again: it keeps them all. How we differ: batches mix the tasks, an image's loss
sees the classes of its own task only, and with every task the training begins anew from the given
model. Normalizations are shared by all tasks.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from fxgrow.continual.baselines.base import DEFAULT_TRAINING, BaselineStrategy
from fxgrow.continual.baselines.common import num_parameters, train_network
from fxgrow.continual.settings import TrainSettings
from fxgrow.continual.strategy import TaskStats
from fxgrow.continual.task import Task
from fxgrow.data import DataSet
from fxgrow.growth import LossFunction
from fxgrow.surgery import sync_size_attributes
from fxgrow.training import cross_entropy, logits


class Joint(BaselineStrategy[Task]):
    """A ``Strategy`` that trains a copy of the model on the images of all tasks so far.

    Args:
        model: the network that every training starts from; it is copied.
        example_inputs: inputs of the model, as ``fxgrow.capture`` takes them.
        head: path of the layer that gives the class scores; None: the last layer.
        train: how the weights are trained.
    """

    keeps_images = True

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        *,
        head: str | None = None,
        train: TrainSettings = DEFAULT_TRAINING,
    ) -> None:
        super().__init__(model, example_inputs, head=head, train=train)
        self._trained = self._network

    @property
    def parameters(self) -> int:
        """Those of the network, whose head has a row for every class of every task.

        The images that it keeps are not counted.
        """
        return num_parameters(self._trained)

    def _learn(self, task: Task, seed: int) -> TaskStats:
        tasks = {**self._tasks, task.name: task}
        class_tasks = _class_tasks(tasks)
        network = self._with_new_head(len(class_tasks), seed)
        data = _all_images(tasks)
        loss = own_task_loss(class_tasks)
        train_network(network, data, self._train, seed=seed, loss=loss)
        # Only now: if training fails, nothing has changed.
        self._tasks, self._trained = tasks, network
        return TaskStats(task.name, details={"images": len(data)})

    def _task_network(self, task: str) -> nn.Module:
        """Copy the network, with those rows of its head that belong to the task."""
        number = list(self._tasks).index(task)
        network = copy.deepcopy(self._trained).eval()
        layer = network.get_submodule(self._head)
        rows = _class_tasks(self._tasks) == number
        for parameter in layer.parameters(recurse=False):
            parameter.data = parameter.data[rows.to(parameter.device)]
        sync_size_attributes(layer)
        return network


def own_task_loss(class_tasks: Tensor) -> LossFunction:
    """Make a cross entropy in which an image competes only among the classes of its own task.

    Args:
        class_tasks: for every class the number of its task.

    Returns:
        The loss; its targets number the classes of all tasks.
    """

    def loss(output: Any, target: Tensor) -> Tensor:
        scores = logits(output)  # [images, classes of all tasks]
        task_of_class = class_tasks.to(target.device)
        task_of_image = task_of_class[target][:, None]
        is_foreign = task_of_image != task_of_class  # [images, classes]
        # exp(-inf) = 0: a foreign class has no part in the softmax.
        return cross_entropy(scores.masked_fill(is_foreign, -torch.inf), target)

    return loss


def _class_tasks(tasks: dict[str, Task]) -> Tensor:
    """For each class of all tasks, one task after the other: the number of its task."""
    classes = torch.tensor([task.classes for task in tasks.values()])
    return torch.arange(len(tasks)).repeat_interleave(classes)


def _all_images(tasks: dict[str, Task]) -> DataSet:
    """All training images; the classes of a task are numbered after those of earlier tasks."""
    classes_before = 0
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for task in tasks.values():
        images.append(task.train.images)
        labels.append(task.train.labels + classes_before)
        classes_before += task.classes
    return DataSet(torch.cat(images), torch.cat(labels))
