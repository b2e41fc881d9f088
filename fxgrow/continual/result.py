"""``result.json`` of a stream of tasks: what it was told, and what came of every task that it has learnt so far.

Forgetting as in Chaudhry et al., "Riemannian Walk for Incremental Learning", ECCV 2018, Sec. 3.2: how much better a
task once was than it is after the last one, the mean over all tasks but the last.
"""

from pathlib import Path
from statistics import fmean
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from fxgrow.continual.expansion import ScoredExpansion
from fxgrow.continual.master import DEFAULT_BUDGET
from fxgrow.continual.networks import vgg
from fxgrow.continual.outcome import TaskOutcome
from fxgrow.continual.storage import _MAX_TASKS
from fxgrow.continual.task import Task, split_classes
from fxgrow.continual.task_training import MasterSettings
from fxgrow.growth import Budget
from fxgrow.spec import Document, StrictModel, read_text
from fxgrow.training import RESULT, DataChoice, FireflyMethod, RandomMethod, seeded

CONTINUAL_VERSION: Literal[1] = 1
_MAX_FILE_BYTES = 2**26
_Share = Annotated[float, Field(ge=0, le=1)]
ClassLabels = tuple[int, ...]


class StreamPlan(StrictModel):
    """A stream of tasks and how it is learnt.

    ``tasks``: how many; ``width``, ``blocks``: of the first network (``networks.vgg``); ``budget``, ``target``: of
    every task, as ``Master.learn`` takes them. ``seed`` deals out the classes and draws the weights, the order of the
    images and the candidates.
    """

    data: DataChoice = DataChoice()
    tasks: int = Field(default=5, ge=1, le=_MAX_TASKS)
    seed: int = Field(default=0, ge=0, le=2**53)
    width: int = Field(default=8, ge=1, le=2**12)
    blocks: Annotated[
        tuple[Annotated[int, Field(ge=1, le=64)], ...], Field(min_length=1, max_length=16)
    ] = (1, 1, 2)
    settings: MasterSettings = MasterSettings()
    method: Annotated[FireflyMethod | RandomMethod, Field(discriminator="name")] = FireflyMethod(
        settings=ScoredExpansion().method  # type: ignore[arg-type]
    )
    budget: Budget = DEFAULT_BUDGET
    target: _Share | None = None

    def deal(self, device: torch.device | str = "cpu") -> tuple[Task, ...]:
        """Load the images and deal them out, on ``device``. Raises ``DataError``."""
        return split_classes(
            self.data.load(None, self.data.size, self.seed).to(device), self.tasks, seed=self.seed
        )

    def network(self, task: Task) -> nn.Module:
        """The network that the first task begins with; torch's random numbers are left as they were."""
        with seeded(self.seed):
            return vgg(
                self.width, task.classes, blocks=self.blocks, in_channels=task.train.images.shape[1]
            )

    def differs(self, other: "StreamPlan") -> str:
        """The first field in which the plans differ, in words; empty if none."""
        ours, theirs = self.model_dump(mode="json"), other.model_dump(mode="json")
        name = next((name for name in ours if ours[name] != theirs[name]), None)
        return "" if name is None else f"{name} is {ours[name]}, not {theirs[name]}"


class ContinualResult(StrictModel):
    """What came of the tasks learnt so far, at least one.

    ``labels``: the classes of every task of the stream, as the data set numbers them; ``accuracies``: row t holds the
    accuracies on the test images of the tasks 1 to t after task t, each measured anew.
    """

    schema_version: Literal[1]
    plan: StreamPlan
    labels: Annotated[tuple[ClassLabels, ...], Field(max_length=_MAX_TASKS)]
    outcomes: Annotated[tuple[TaskOutcome, ...], Field(min_length=1, max_length=_MAX_TASKS)]
    accuracies: Annotated[tuple[tuple[_Share, ...], ...], Field(max_length=_MAX_TASKS)]

    @model_validator(mode="after")
    def _triangle(self) -> "ContinualResult":
        if list(map(len, self.accuracies)) != list(range(1, len(self.outcomes) + 1)):
            raise ValueError("accuracies is no lower triangle with a row for every outcome")
        return self

    @property
    def average(self) -> float:
        """The mean test accuracy of all tasks, after the last one."""
        return fmean(self.accuracies[-1])

    @property
    def forgetting(self) -> float:
        """The mean over all tasks but the last: their best accuracy before the last task, less that after it."""
        *before, last = self.accuracies
        lost = [max(row[task] for row in before[task:]) - last[task] for task in range(len(before))]
        return fmean(lost) if lost else 0.0


CONTINUAL_DOCUMENT = Document("continual-result", ContinualResult, CONTINUAL_VERSION)


def read_continual(directory: Path) -> ContinualResult:
    """The result in ``directory``. Raises ``SpecError`` with code and path."""
    return CONTINUAL_DOCUMENT.read(read_text(directory / RESULT, _MAX_FILE_BYTES), RESULT)
