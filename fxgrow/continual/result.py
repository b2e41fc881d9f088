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

from fxgrow.continual.expansion import TwoSteps
from fxgrow.continual.learning import MasterSettings
from fxgrow.continual.master import DEFAULT_BUDGET
from fxgrow.continual.networks import vgg
from fxgrow.continual.outcome import Outcome
from fxgrow.continual.storage import MOST_TASKS
from fxgrow.continual.task import Task, deal
from fxgrow.growth import Budget
from fxgrow.spec import Document, Frozen, read_text
from fxgrow.training import DataChoice, FireflyMethod, seeded
from fxgrow.training.directory import RESULT
from fxgrow.training.recipe import RandomMethod

CONTINUAL_VERSION: Literal[1] = 1
FILE_LIMIT = 2**26
Share = Annotated[float, Field(ge=0, le=1)]
Labels = tuple[int, ...]


class Plan(Frozen):
    """A stream of tasks and how it is learnt.

    ``tasks``: how many; ``width``, ``blocks``: of the first network (``networks.vgg``); ``budget``, ``target``: of
    every task, as ``Master.learn`` takes them. ``seed`` deals out the classes and draws the weights, the order of the
    images and the candidates.
    """

    data: DataChoice = DataChoice()
    tasks: int = Field(default=5, ge=1, le=MOST_TASKS)
    seed: int = Field(default=0, ge=0, le=2**53)
    width: int = Field(default=8, ge=1, le=2**12)
    blocks: Annotated[tuple[Annotated[int, Field(ge=1, le=64)], ...], Field(min_length=1, max_length=16)] = (1, 1, 2)
    settings: MasterSettings = MasterSettings()
    method: Annotated[FireflyMethod | RandomMethod, Field(discriminator="name")] = FireflyMethod(
        settings=TwoSteps().method  # type: ignore[arg-type]
    )
    budget: Budget = DEFAULT_BUDGET
    target: Share | None = None

    def deal(self, device: torch.device | str = "cpu") -> tuple[Task, ...]:
        """Load the images and deal them out, on ``device``. Raises ``DataError``."""
        return deal(self.data.load(None, self.data.size, self.seed).to(device), self.tasks, seed=self.seed)

    def network(self, task: Task) -> nn.Module:
        """The network that the first task begins with; torch's random numbers are left as they were."""
        with seeded(self.seed):
            return vgg(self.width, task.classes, blocks=self.blocks, in_channels=task.train.images.shape[1])

    def differs(self, other: "Plan") -> str:
        """The first field in which the plans differ, in words; empty if none."""
        ours, theirs = self.model_dump(mode="json"), other.model_dump(mode="json")
        name = next((name for name in ours if ours[name] != theirs[name]), None)
        return "" if name is None else f"{name} is {ours[name]}, not {theirs[name]}"


class ContinualResult(Frozen):
    """What came of the tasks learnt so far, at least one.

    ``labels``: the classes of every task of the stream, as the data set numbers them; ``accuracies``: row t holds the
    accuracies on the test images of the tasks 1 to t after task t, each measured anew.
    """

    schema_version: Literal[1]
    plan: Plan
    labels: Annotated[tuple[Labels, ...], Field(max_length=MOST_TASKS)]
    outcomes: Annotated[tuple[Outcome, ...], Field(min_length=1, max_length=MOST_TASKS)]
    accuracies: Annotated[tuple[tuple[Share, ...], ...], Field(max_length=MOST_TASKS)]

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


CONTINUAL = Document("continual-result", ContinualResult, CONTINUAL_VERSION)


def read_continual(directory: Path) -> ContinualResult:
    """The result in ``directory``. Raises ``SpecError`` with code and path."""
    return CONTINUAL.read(read_text(directory / RESULT, FILE_LIMIT), RESULT)
