"""What learning one task took, and what it left in the master network."""

from collections.abc import Mapping

from fxgrow.continual.shared_network import NEW_NEURON, SharedNetwork
from fxgrow.continual.task_training import TrainedTask
from fxgrow.spec import StrictModel, multiply_adds


class WidthUse(StrictModel):
    """The neurons of one width in a task's network.

    Args:
        locked: those of the master network that are used as they are.
        unlocked: copies that were trained on.
        new: those that were added.
        master: how many the width has in the master network after the task.

    Example:
        >>> WidthUse(locked=6, unlocked=1, new=2, master=12).used
        9
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
    """A task that was learned.

    Args:
        task: its name.
        classes: how many classes it has.
        accuracy: on the validation images, of the network as it was merged.
        tried: the same with a new head and normalization alone; None: the first task.
        loss_before: on the growth batches that candidates are scored on, before the expansion;
            None: it did not grow.
        loss_after: the same after the expansion.
        widths: the neurons of its network, by name of the width.
        growing_epochs: passes over the training images to try, to choose what is used, and to
            search (Wu et al. 2020, Table 2).
        parameters: of the master network, and all that the tasks have for themselves.
        network_parameters: of the task's own network.
        multiply_adds: of the task's own network, for the example inputs.
        seconds: wall time of learning.
        cpu_seconds: CPU time of learning.
        check_seconds: wall time of comparing the networks of all tasks with what they were.

    Example:
        >>> outcome = master.learn("cats and dogs", train, valid, classes=2)
        >>> outcome.accuracy, outcome.widths["conv1"].new
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
    trained: TrainedTask,
    union: SharedNetwork,
    parameters: int,
    accuracy: float,
) -> TaskOutcome:
    """Describe a task that was merged.

    Args:
        task: its name.
        classes: how many classes it has.
        trained: its network before it was merged.
        union: the master network, with the task in it.
        parameters: of the master network, and all that the tasks have for themselves.
        accuracy: on the validation images.

    Returns:
        The outcome, with all seconds 0.
    """
    draft, expanded = trained.draft, trained.expanded
    return TaskOutcome(
        task=task,
        classes=classes,
        accuracy=accuracy,
        tried=trained.tried,
        loss_before=expanded.loss_before if expanded else None,
        loss_after=expanded.loss_after if expanded else None,
        # Of the draft, which is what the task computes with; the union is larger.
        widths=_widths(trained, union),
        growing_epochs=trained.growing_epochs,
        parameters=parameters,
        network_parameters=sum(parameter.numel() for parameter in draft.network.parameters()),
        multiply_adds=multiply_adds(draft.network, union.inputs),
    )


def _widths(trained: TrainedTask, union: SharedNetwork) -> dict[str, WidthUse]:
    """How many neurons of each width are locked, unlocked and new."""
    draft = trained.draft
    uses: dict[str, WidthUse] = {}
    for name, origin in draft.origin.items():
        new = int((origin == NEW_NEURON).sum())
        unlocked = int(draft.unlocked[name].sum())
        # Whatever is neither new nor a copy is used as it is.
        locked = len(origin) - new - unlocked
        master = union.coupling.by_name[name].size
        uses[name] = WidthUse(locked=locked, unlocked=unlocked, new=new, master=master)
    return uses
