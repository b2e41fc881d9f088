"""What every method of continual learning offers to those who compare them."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

from fxgrow.continual.task import Task


@dataclass(frozen=True)
class TaskStats:
    """What learning one task took.

    Args:
        task: the name of the task.
        growing_epochs: passes over the task's training images beyond its training, to decide what
            to use, grow or prune (Wu et al. 2020, Table 2, "extra growing epochs").
        seconds: wall time of the task, from first to last.
        cpu_seconds: CPU time of the task.
        details: what else the method reports, ready for JSON.

    Example:
        >>> stats = strategy.learn(task)
        >>> print(stats.task, stats.seconds)
    """

    task: str
    growing_epochs: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)


class Strategy(Protocol):
    """A method that learns tasks in turn.

    It never sees the images of a task again; joint training, which does, sets ``keeps_images``.

    Example:
        >>> strategy: Strategy = STRATEGIES["ewc"](setup)
        >>> for task in tasks:
        ...     strategy.learn(task)
        >>> strategy.network(tasks[0].name)(images)
    """

    @property
    def parameters(self) -> int:
        """All that must be kept to classify the images of every task so far, masks not counted."""
        ...

    def learn(self, task: Task, *, seed: int = 0) -> TaskStats:
        """Learn one more task.

        Args:
            task: the images, and how many classes they have.
            seed: decides everything that is drawn at random.

        Returns:
            What learning took.
        """
        ...

    def network(self, task: str) -> nn.Module:
        """Give the network for the images of a task, in evaluation mode.

        Args:
            task: the name of a task that was learned.

        Returns:
            The network, whose output has one column per class of the task.
        """
        ...
