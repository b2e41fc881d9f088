"""A network for every task: what is learnt is never forgotten, and nothing is shared.

Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020, Table 2, "Individual". How we
differ: every network starts from the weights of the given model. Normalisations are each task's own, as all is.
"""

import copy
from typing import Any

import torch
from torch import nn

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


class Individual:
    """A ``Learner`` that trains a copy of ``model`` per task. Raises ``GrowthError`` (``no-head``)."""

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
        self._networks: dict[str, nn.Module] = {}

    @property
    def parameters(self) -> int:
        """Those of all networks."""
        return num_parameters(*self._networks.values())

    def learn(self, task: Task, *, seed: int = 0) -> TaskStats:
        """Raises ``DataError`` (``known-task``, ``no-batches``), ``TrainingError`` (``nan-loss``)."""
        clock = Stopwatch()
        require_new(self._networks, task.name)
        network = copy.deepcopy(self._model)
        new_head(network, self._head, task.classes, torch.Generator().manual_seed(seed))
        train_network(network, task.train, self._train, seed=seed)
        self._networks[task.name] = network
        return clock.learnt(task)

    def network(self, task: str) -> nn.Module:
        """A copy of the network of ``task``. Raises ``DataError`` (``unknown-task``)."""
        return copy.deepcopy(self._networks[require_learned(self._networks, task)]).eval()
