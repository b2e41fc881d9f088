"""A tiny stream of three tasks, for tests of what is done with it."""

from functools import cache

import torch

from fxgrow.continual import MasterSettings, Task, TrainSettings, split_classes
from fxgrow.continual.result import StreamPlan
from fxgrow.data import DataSet, Splits
from fxgrow.growth import Budget
from fxgrow.methods import Firefly, MethodConfig

CLASSES, SIZE = 6, 4
PLAN = StreamPlan(
    tasks=3,
    width=3,
    blocks=(1, 1),
    settings=MasterSettings(train=TrainSettings(epochs=1, batch_size=8), growth_batches=1),
    method=MethodConfig(settings=Firefly(new=1, steps=1, refine_steps=1, points=1)),
    budget=Budget(neurons=2),
)


@cache
def tasks() -> tuple[Task, ...]:
    """Two classes each, of images that differ in brightness."""
    return split_classes(
        Splits("grey", _part(96, 0), _part(24, 1), CLASSES, (0.0,), (1.0,)), PLAN.tasks, seed=0
    )


def _part(count: int, seed: int) -> DataSet:
    labels = torch.arange(count) % CLASSES
    noise = torch.randn(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return DataSet(labels[:, None, None, None] - 2.5 + noise, labels)
