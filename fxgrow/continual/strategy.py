"""What a method of continual learning is to those who compare them: the master network, and every rival."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

from fxgrow.continual.task import Task


@dataclass(frozen=True)
class TaskStats:
    """What learning one task took.

    ``growing_epochs``: passes over the task's training images beyond its training, to decide what to use, grow or
    prune (Wu et al. 2020, Table 2, "extra growing epochs"). ``seconds``, ``cpu_seconds``: of the whole task.
    ``details``: what else the method has to say, ready for JSON.
    """

    task: str
    growing_epochs: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)


class Strategy(Protocol):
    """Learns tasks in turn; never sees the images of a task again (but joint training, which is told apart)."""

    @property
    def parameters(self) -> int:
        """All that must be kept to classify the images of every task so far, masks not counted."""
        ...

    def learn(self, task: Task, *, seed: int = 0) -> TaskStats:
        """Learn one more task."""
        ...

    def network(self, task: str) -> nn.Module:
        """The network for the images of a task that was learnt, in evaluation mode."""
        ...
