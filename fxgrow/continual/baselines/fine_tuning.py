"""One network trained on task after task, with a head for each: it forgets, the lower bound.

Reference: Li, Hoiem, "Learning without Forgetting", ECCV 2016, Sec. 1 and Fig. 2 (b),
"Fine-tuning". How we differ: all layers are trained at the full learning rate. Normalizations are
shared; their statistics are those of the last task.
"""

from fxgrow.continual.baselines.base import TrunkStrategy
from fxgrow.continual.baselines.common import train_network
from fxgrow.continual.strategy import TaskStats
from fxgrow.continual.task import Task


class FineTuning(TrunkStrategy):
    """A ``Strategy`` that trains one copy of the model; each task has a head of its own.

    Args:
        model: the network that the first task starts from; it is copied.
        example_inputs: inputs of the model, as ``fxgrow.capture`` takes them.
        head: path of the layer that gives the class scores; None: the last layer.
        train: how the weights are trained on every task.
    """

    def _learn(self, task: Task, seed: int) -> TaskStats:
        with self._trunk.learning(task, seed) as network:
            # All weights move, those that earlier tasks need included: that is the point.
            train_network(network, task.train, self._train, seed=seed)
        return TaskStats(task.name)
