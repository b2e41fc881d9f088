"""What learning one task took, and what it left in the master network."""

from collections.abc import Mapping

from fxgrow.continual.shared_network import NEW_NEURON, SharedNetwork
from fxgrow.continual.task_training import TrainedTask
from fxgrow.spec import StrictModel, multiply_adds


class WidthUse(StrictModel):
    """The neurons of one width in a task's network: used as they are, unlocked copies, and new ones.

    ``master``: how many the width has in the master network now.
    """

    locked: int
    unlocked: int
    new: int
    master: int

    @property
    def used(self) -> int:
        """All neurons of the task's network."""
        return self.locked + self.unlocked + self.new


class TaskOutcome(StrictModel):
    """A task that was learnt.

    ``tried``: accuracy on the validation images with a new head and normalisation alone (None: the first task);
    ``accuracy``: of the network as it was merged; ``loss_before``, ``loss_after``: on the growth batches (None: it did
    not grow).
    ``growing_epochs``: passes over the training images to try, to choose what is used, and to search (Wu et al. 2020,
    Table 2).
    ``parameters``: of the master network and all that the tasks have for themselves; ``network_parameters`` and
    ``multiply_adds``: of the task's own network, the latter for the example inputs. Seconds are of learning, those to
    ``check`` of comparing the networks of all tasks so far with what they were.
    """

    task: str
    classes: int
    accuracy: float
    tried: float | None = None
    loss_before: float | None = None
    loss_after: float | None = None
    widths: Mapping[str, WidthUse]
    growing_epochs: float = 0.0
    parameters: int
    network_parameters: int
    multiply_adds: int
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    check_seconds: float = 0.0


def task_outcome(
    task: str,
    classes: int,
    learnt: TrainedTask,
    union: SharedNetwork,
    parameters: int,
    accuracy: float,
) -> TaskOutcome:
    """The outcome of a task that was merged into ``union``."""
    draft, expanded = learnt.draft, learnt.expanded
    return TaskOutcome(
        task=task,
        classes=classes,
        accuracy=accuracy,
        tried=learnt.tried,
        loss_before=expanded.loss_before if expanded else None,
        loss_after=expanded.loss_after if expanded else None,
        widths=_widths(learnt, union),
        growing_epochs=learnt.growing_epochs,
        parameters=parameters,
        network_parameters=sum(parameter.numel() for parameter in draft.network.parameters()),
        multiply_adds=multiply_adds(draft.network, union.inputs),
    )


def _widths(learnt: TrainedTask, union: SharedNetwork) -> dict[str, WidthUse]:
    """How many neurons of each width are locked, unlocked and new."""
    draft, sizes = learnt.draft, union.coupling.by_name
    found = {}
    for name, origin in draft.origin.items():
        new, unlocked = int((origin == NEW_NEURON).sum()), int(draft.unlocked[name].sum())
        found[name] = WidthUse(
            locked=len(origin) - new - unlocked, unlocked=unlocked, new=new, master=sizes[name].size
        )
    return found
