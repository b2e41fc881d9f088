"""The master network as one of the learners that are compared."""

from typing import Any

import torch
from torch import nn

from fxgrow.continual.expansion import Expansion
from fxgrow.continual.master import DEFAULT_BUDGET, Master
from fxgrow.continual.strategy import TaskStats
from fxgrow.continual.task import Task
from fxgrow.continual.task_training import MasterSettings
from fxgrow.data import batches
from fxgrow.growth import Budget

_EVALUATION_BATCH = 256


class MasterStrategy:
    """Learns every task by ``Master.learn``; ``budget`` and ``target`` are those of every task."""

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        *,
        head: str | None = None,
        settings: MasterSettings | None = None,
        expansion: Expansion | None = None,
        budget: Budget = DEFAULT_BUDGET,
        target: float | None = None,
    ) -> None:
        self.master = Master(
            model, example_inputs, head=head, expansion=expansion, settings=settings
        )
        self.budget, self.target = budget, target

    @property
    def parameters(self) -> int:
        """Those of the master network and all that the tasks have for themselves."""
        return self.master.parameters

    def learn(self, task: Task, *, seed: int = 0) -> TaskStats:
        """Learn one more task; the batches come in an order that ``seed`` decides."""
        size, order = self.master.settings.train.batch_size, torch.Generator().manual_seed(seed)
        lonely = len(task.train) % size == 1  # batch norm cannot train on a batch of one
        train = batches(task.train, size, shuffle=True, generator=order, drop_last=lonely)
        outcome = self.master.learn(
            task.name,
            train,
            batches(task.valid, _EVALUATION_BATCH),
            classes=task.classes,
            budget=self.budget,
            target=self.target,
            seed=seed,
        )
        details = outcome.model_dump(mode="json")
        return TaskStats(
            task.name, outcome.growing_epochs, outcome.seconds, outcome.cpu_seconds, details
        )

    def network(self, task: str) -> nn.Module:
        """The network of a task, in evaluation mode."""
        return self.master.network(task)
