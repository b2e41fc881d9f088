"""A network for every task: what is learned is never forgotten, and nothing is shared.

Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020, Table 2,
"Individual". How we differ: every network starts from the weights of the given model.
Normalizations are each task's own, as all is.
"""

import copy

from torch import nn

from fxgrow.continual.baselines.base import BaselineStrategy
from fxgrow.continual.baselines.common import num_parameters, train_network
from fxgrow.continual.strategy import TaskStats
from fxgrow.continual.task import Task


class Individual(BaselineStrategy[nn.Module]):
    """A ``Strategy`` that trains a copy of the model for every task.

    Args:
        model: the network that every task starts from; it is copied.
        example_inputs: inputs of the model, as ``fxgrow.capture`` takes them.
        head: path of the layer that gives the class scores; None: the last layer.
        train: how the weights are trained on every task.
    """

    @property
    def parameters(self) -> int:
        """Those of all networks."""
        return num_parameters(*self._tasks.values())

    def _learn(self, task: Task, seed: int) -> TaskStats:
        network = self._with_new_head(task.classes, seed)
        train_network(network, task.train, self._train, seed=seed)
        self._tasks[task.name] = network
        return TaskStats(task.name)

    def _task_network(self, task: str) -> nn.Module:
        # A copy, so that the caller may change it.
        return copy.deepcopy(self._tasks[task]).eval()
