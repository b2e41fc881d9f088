"""A stream of tasks: the classes of one data set, dealt out to tasks that come one after the other.

Which task an image belongs to is known when it is classified, so every task numbers its own classes
from 0 (Wu et al. 2020, Sec. 3: CIFAR-100 in 10 and in 20 tasks, the classes dealt out at random).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fxgrow.argument_checks import checked, checked_class
from fxgrow.argument_types import Name, Seed, Share
from fxgrow.data import DataSet, Splits
from fxgrow.errors import DataError


@checked_class
@dataclass(frozen=True, eq=False)
class Task:
    """Images and classes to learn.

    Args:
        name: the name of the task.
        train: the images to train on, labeled from 0.
        valid: the images to validate on, none of which is one of ``train``.
        test: the images to test on.
        classes: how many classes there are.
        labels: which classes of the data set these are, in order, if they are of one.

    Example:
        >>> task = Task("cats and dogs", train, valid, test, classes=2)
    """

    name: Name
    train: DataSet
    valid: DataSet
    test: DataSet
    classes: int
    labels: tuple[int, ...] = ()


@checked
def split_classes(
    data: Splits, tasks: int, *, seed: Seed = 0, valid_share: Share = 0.2
) -> tuple[Task, ...]:
    """Deal out the classes of a data set at random, equally many to each task.

    Args:
        data: the data set.
        tasks: how many tasks.
        seed: decides which classes a task gets.
        valid_share: every ``1 / valid_share``-th training image of a task is kept to validate on.

    Returns:
        The tasks, named "1", "2", ...

    Raises:
        DataError: ``classes`` if the classes cannot be dealt out evenly, at least two to a task;
            ``no-images`` if a task is left without images.

    Example:
        >>> tasks = split_classes(load_data("digits"), 5)
        >>> [task.name for task in tasks]
        ['1', '2', '3', '4', '5']
    """
    classes_per_task, rest = divmod(data.classes, max(tasks, 1))
    if tasks < 1 or rest or classes_per_task < 2:
        raise DataError(
            "classes",
            f"the {data.classes} classes of {data.name} cannot be dealt out to {tasks} tasks; "
            "take a number of tasks that divides them and leaves each at least two",
        )
    # A generator of its own: torch's random numbers are left as they were.
    order = torch.randperm(data.classes, generator=torch.Generator().manual_seed(seed))
    step = max(2, round(1 / valid_share))
    dealt: list[Task] = []
    for number, classes in enumerate(order.split(classes_per_task), 1):
        dealt.append(_task(data, str(number), classes, step))
    return tuple(dealt)


def _task(data: Splits, name: str, classes: Tensor, step: int) -> Task:
    """The task of some classes; every ``step``-th training image validates."""
    train, test = _only(data.train, classes), _only(data.test, classes)
    train_indices = [index for index in range(len(train)) if index % step]
    valid_indices = list(range(0, len(train), step))
    if min(len(train_indices), len(valid_indices), len(test)) < 1:
        raise DataError(
            "no-images", f"task {name} of {data.name} is left without images; load more of them"
        )
    return Task(
        name,
        train.pick(train_indices),
        train.pick(valid_indices),
        test,
        len(classes),
        tuple(classes.tolist()),
    )


def _only(part: DataSet, classes: Tensor) -> DataSet:
    """The images of some classes, labeled by their place among them."""
    is_class = part.labels[:, None] == classes.to(part.labels.device)  # [images, classes]
    chosen = is_class.any(1)
    # argmax gives the one class that matches.
    return DataSet(part.images[chosen], is_class[chosen].int().argmax(1))


def require_learned(tasks: Mapping[str, Any], name: str) -> str:
    """Check that a task was learned.

    Args:
        tasks: the tasks that were learned, by name.
        name: the name of the task.

    Returns:
        The name.

    Raises:
        DataError: ``unknown-task`` if it was not.
    """
    if name not in tasks:
        known = ", ".join(tasks) or "none yet"
        raise DataError(
            "unknown-task",
            f"task {name!r} was not learnt ({known}) and has no network; learn it first",
        )
    return name


def require_new(tasks: Mapping[str, Any], name: str) -> None:
    """Check that a task was not learned yet.

    Args:
        tasks: the tasks that were learned, by name.
        name: the name of the task.

    Raises:
        DataError: ``known-task`` if it was.
    """
    if name in tasks:
        raise DataError(
            "known-task",
            f"task {name!r} was learnt already and is not learnt again; choose another name",
        )
