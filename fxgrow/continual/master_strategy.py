"""The master network as one of the strategies that are compared."""

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
from fxgrow.training import EVALUATION_BATCH, shuffled


class MasterStrategy:
    """A ``Strategy`` that learns every task by ``Master.learn``.

    Args:
        model: the network that the first task starts from; it is copied.
        example_inputs: inputs of the model, as ``fxgrow.capture`` takes them.
        head: path of the layer that gives the class scores; None: the last layer.
        settings: how tasks are trained, and when they grow.
        expansion: how neurons are chosen.
        budget: what every task may unlock and add.
        target: an accuracy on the validation images with which a task is done.
    """

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
        """Learn one more task.

        Args:
            task: the images, and how many classes they have.
            seed: decides the order of the images and everything else that is drawn at random.

        Returns:
            What learning took; its details are the fields of the ``TaskOutcome``.

        Raises:
            DataError: ``known-task``, ``no-batches``.
            TrainingError: ``nan-loss``.
            BudgetError: if the budget pays for no neuron.
        """
        batch_size = self.master.settings.train.batch_size
        # The same seed orders the images and draws everything else.
        outcome = self.master.learn(
            task.name,
            shuffled(task.train, batch_size, torch.Generator().manual_seed(seed)),
            batches(task.valid, EVALUATION_BATCH),
            classes=task.classes,
            budget=self.budget,
            target=self.target,
            seed=seed,
        )
        # As JSON, so that all strategies report plain data.
        details = outcome.model_dump(mode="json")
        return TaskStats(
            task.name, outcome.growing_epochs, outcome.seconds, outcome.cpu_seconds, details
        )

    def network(self, task: str) -> nn.Module:
        """Give the network of a task, in evaluation mode.

        Args:
            task: the name of a task that was learned.

        Returns:
            A compact network of its own.

        Raises:
            DataError: ``unknown-task``.
        """
        return self.master.network(task)
