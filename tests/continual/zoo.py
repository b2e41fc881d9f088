"""Tiny tasks for every network of the zoo, and masters that have learnt them."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from fxgrow.continual import Master, MasterSettings, ScoredExpansion, TaskOutcome, TrainSettings
from fxgrow.growth import Batch, Budget
from fxgrow.methods import Firefly
from tests.networks import images, network

SETTINGS = MasterSettings(train=TrainSettings(epochs=2, batch_size=8), growth_batches=1)
EXPANSION = ScoredExpansion(method=Firefly(new=2, steps=2, refine_steps=1, points=1))
BUDGET = Budget(neurons=3)
CLASSES = {"a": 2, "b": 3, "c": 2}


def data(task: str, count: int = 16) -> list[Batch]:
    """Batches of 8 random images of 3 x 6 x 6, brighter by one from class to class."""
    x, y = images(count, seed=ord(task)), torch.arange(count) % CLASSES[task]
    x = x + y[:, None, None, None]
    return list(zip(x.split(8), y.split(8), strict=True))


def master(name: str = "chain") -> Master:
    """One that has learnt nothing yet."""
    return Master(network(name), images(), settings=SETTINGS, expansion=EXPANSION)


def learn(
    learner: Master, task: str, *, budget: Budget = BUDGET, target: float | None = None
) -> TaskOutcome:
    return learner.learn(
        task, data(task), data(task), classes=CLASSES[task], budget=budget, target=target
    )


class Stream(NamedTuple):
    """A master, and after each task what all networks so far said to ``IMAGES``."""

    master: Master
    outcomes: Sequence[TaskOutcome]
    heard: Sequence[dict[str, Tensor]]


IMAGES = images(5, seed=77)


@cache
def stream(name: str) -> Stream:
    """Three tasks one after the other; for tests that change nothing."""
    learner, outcomes, heard = master(name), [], []
    for task in CLASSES:
        outcomes.append(learn(learner, task))
        heard.append({known: reference_outputs(learner, known) for known in learner.tasks})
    return Stream(learner, outcomes, heard)


def reference_outputs(learner: Master, task: str, x: Tensor = IMAGES) -> Tensor:
    with torch.no_grad():
        found: Tensor = learner.network(task)(x)
    return found
