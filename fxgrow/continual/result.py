"""``result.json`` of a stream of tasks: its plan, and the outcome of every task learned so far.

Forgetting as in Chaudhry et al., "Riemannian Walk for Incremental Learning", ECCV 2018, Sec. 3.2:
how much better a task once was than it is after the last one, the mean over all tasks but the last.
"""

from pathlib import Path
from statistics import fmean
from typing import Annotated, Literal

from pydantic import Field, model_validator
from torch import nn

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Device
from fxgrow.continual.expansion import ScoredExpansion
from fxgrow.continual.master import DEFAULT_BUDGET
from fxgrow.continual.networks import vgg
from fxgrow.continual.outcome import TaskOutcome
from fxgrow.continual.storage import MAX_TASKS
from fxgrow.continual.task import Task, split_classes
from fxgrow.continual.task_training import MasterSettings
from fxgrow.growth import Budget
from fxgrow.methods import MethodConfig
from fxgrow.spec import Document, StrictModel, read_text
from fxgrow.training import RESULT, DataChoice, seeded

CONTINUAL_VERSION: Literal[1] = 1
_MAX_FILE_BYTES = 2**26
_Share = Annotated[float, Field(ge=0, le=1)]
_BlockSize = Annotated[int, Field(ge=1, le=64)]
_Blocks = Annotated[tuple[_BlockSize, ...], Field(min_length=1, max_length=16)]
ClassLabels = tuple[int, ...]


class StreamPlan(StrictModel):
    """A stream of tasks, and how it is learned.

    Args:
        data: the data set whose classes are dealt out.
        tasks: how many tasks.
        seed: deals out the classes, and draws the weights, the order of the images, and candidates.
        width: the channels of the first network (``networks.vgg``).
        blocks: the convolutions in each of its blocks.
        settings: how tasks are trained, and when they grow.
        method: how neurons are chosen.
        budget: what every task may unlock and add.
        target: the accuracy with which a task is done, as ``Master.learn`` takes it.

    Example:
        >>> plan = StreamPlan(data=DataChoice(name="digits"), tasks=5)
        >>> result = run_stream(plan.deal(), plan, Path("runs/digits"))
    """

    data: DataChoice = DataChoice()
    tasks: int = Field(default=5, ge=1, le=MAX_TASKS)
    seed: int = Field(default=0, ge=0, le=2**53)
    width: int = Field(default=8, ge=1, le=2**12)
    blocks: _Blocks = (1, 1, 2)
    settings: MasterSettings = MasterSettings()
    method: MethodConfig = MethodConfig(settings=ScoredExpansion().method)
    budget: Budget = DEFAULT_BUDGET
    target: _Share | None = None

    @checked
    def deal(self, device: Device = "cpu") -> tuple[Task, ...]:
        """Load the images and deal out their classes.

        Args:
            device: where the images go.

        Returns:
            The tasks in their order.

        Raises:
            DataError: if the data set cannot be loaded or dealt out.
        """
        data = self.data.load(None, self.data.size, self.seed).to(device)
        return split_classes(data, self.tasks, seed=self.seed)

    @checked
    def network(self, task: Task) -> nn.Module:
        """Draw the network that the first task begins with.

        Args:
            task: a task of the stream; its images decide the number of input channels.

        Returns:
            The network. Torch's own random numbers are left as they were.
        """
        in_channels = task.train.images.shape[1]
        with seeded(self.seed):
            return vgg(self.width, task.classes, blocks=self.blocks, in_channels=in_channels)

    @checked
    def differs(self, other: "StreamPlan") -> str:
        """Name the first field in which two plans differ; empty if none."""
        # As JSON, in which the values are shown to the user.
        own_fields, other_fields = self.model_dump(mode="json"), other.model_dump(mode="json")
        for name, value in own_fields.items():
            if value != other_fields[name]:
                return f"{name} is {value}, not {other_fields[name]}"
        return ""


class ContinualResult(StrictModel):
    """The outcome of the tasks learned so far, at least one.

    Args:
        schema_version: of this document.
        plan: of the stream.
        labels: for every task of the stream its classes, as the data set numbers them.
        outcomes: of the tasks learned so far.
        accuracies: row t holds the accuracies on the test images of the tasks 1 to t after task t,
            each measured anew.

    Raises:
        ValueError: if ``accuracies`` is no lower triangle.

    Example:
        >>> result = read_continual(Path("runs/digits"))
        >>> result.average, result.forgetting
    """

    schema_version: Literal[1]
    plan: StreamPlan
    labels: Annotated[tuple[ClassLabels, ...], Field(max_length=MAX_TASKS)]
    outcomes: Annotated[tuple[TaskOutcome, ...], Field(min_length=1, max_length=MAX_TASKS)]
    accuracies: Annotated[tuple[tuple[_Share, ...], ...], Field(max_length=MAX_TASKS)]

    @model_validator(mode="after")
    def _triangle(self) -> "ContinualResult":
        # After task t there are t accuracies.
        row_lengths = list(map(len, self.accuracies))
        if row_lengths != list(range(1, len(self.outcomes) + 1)):
            raise ValueError("accuracies is no lower triangle with a row for every outcome")
        return self

    @property
    def average(self) -> float:
        """The mean test accuracy of all tasks, after the last one."""
        return fmean(self.accuracies[-1])

    @property
    def forgetting(self) -> float:
        """The mean over all tasks but the last of what they lost: best accuracy less last one."""
        # Rows are moments, columns are tasks.
        *before, last = self.accuracies
        lost: list[float] = []
        for task in range(len(before)):
            # Task t has no accuracy in the rows before its own.
            best = max(row[task] for row in before[task:])
            lost.append(best - last[task])
        return fmean(lost) if lost else 0.0


CONTINUAL_DOCUMENT = Document("continual-result", ContinualResult, CONTINUAL_VERSION)


@checked
def read_continual(directory: Path) -> ContinualResult:
    """Read the result of a stream of tasks.

    Args:
        directory: where ``run_stream`` wrote it.

    Returns:
        The result.

    Raises:
        SpecError: with code and path, if it cannot be read.

    Example:
        >>> read_continual(Path("runs/digits")).average
    """
    return CONTINUAL_DOCUMENT.read(read_text(directory / RESULT, _MAX_FILE_BYTES), RESULT)
