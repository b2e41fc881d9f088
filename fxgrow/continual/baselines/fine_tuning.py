"""One network trained on task after task, with a head for each: it forgets, the lower bound of the others.

Reference: Li, Hoiem, "Learning without Forgetting", ECCV 2016, Sec. 1 and Fig. 2 (b), "Fine-tuning". How we differ: all
layers are trained at the full learning rate. Normalisations are shared, their statistics are those of the last task.
"""

from typing import Any

from torch import nn

from fxgrow.continual.baselines.common import (
    _TRAINING_FACTOR,
    SharedTrunk,
    Stopwatch,
    train_network,
)
from fxgrow.continual.settings import TrainSettings
from fxgrow.continual.strategy import TaskStats
from fxgrow.continual.task import Task


class FineTuning:
    """A ``Learner`` that trains one copy of ``model``. Raises ``GrowthError`` (``no-head``)."""

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        *,
        head: str | None = None,
        train: TrainSettings = _TRAINING_FACTOR,
    ) -> None:
        self._trunk = SharedTrunk.of(model, example_inputs, head)
        self._train = train

    @property
    def parameters(self) -> int:
        """Those of the network and of a head per task."""
        return self._trunk.parameters

    def learn(self, task: Task, *, seed: int = 0) -> TaskStats:
        """Raises ``DataError`` (``known-task``, ``no-batches``), ``TrainingError`` (``nan-loss``)."""
        clock = Stopwatch()
        train_network(self._trunk.add(task, seed), task.train, self._train, seed=seed)
        return clock.learnt(task)

    def network(self, task: str) -> nn.Module:
        """A copy of the network as it is now, with the head of ``task``. Raises ``DataError`` (``unknown-task``)."""
        return self._trunk.network(task)
