"""A stream of tasks: the classes of one data set, dealt out to tasks that come one after the other.

Which task an image belongs to is known when it is classified, so every task numbers its own classes from 0
(Wu et al. 2020, Sec. 3: CIFAR-100 in 10 and in 20 tasks, the classes dealt out at random).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fxgrow.data import DataSet, Splits
from fxgrow.errors import DataError


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be learnt: ``classes`` of them, labelled from 0. No image of ``valid`` is one of ``train``.

    ``labels``: which classes of the data set these are, in order, if they are of one.
    """

    name: str
    train: DataSet
    valid: DataSet
    test: DataSet
    classes: int
    labels: tuple[int, ...] = ()


def split_classes(
    data: Splits, tasks: int, *, seed: int = 0, valid_share: float = 0.2
) -> tuple[Task, ...]:
    """Tasks of equally many classes, dealt out at random by ``seed``.

    Every ``1 / valid_share``-th training image of a task is kept to validate on. Raises ``DataError`` (``classes``) if
    the classes cannot be dealt out evenly, at least two to a task.
    """
    each, rest = divmod(data.classes, max(tasks, 1))
    if tasks < 1 or rest or each < 2:
        raise DataError(
            "classes",
            f"the {data.classes} classes of {data.name} cannot be dealt out to {tasks} tasks; take a number of tasks "
            "that divides them and leaves each at least two",
        )
    order = torch.randperm(data.classes, generator=torch.Generator().manual_seed(seed))
    step = max(2, round(1 / valid_share))
    return tuple(
        _task(data, str(number + 1), mine, step) for number, mine in enumerate(order.split(each))
    )


def _task(data: Splits, name: str, classes: Tensor, step: int) -> Task:
    train, test = (_only(part, classes) for part in (data.train, data.test))
    kept = [index for index in range(len(train)) if index % step]
    valid = list(range(0, len(train), step))
    if min(len(kept), len(valid), len(test)) < 1:
        raise DataError(
            "no-images", f"task {name} of {data.name} is left without images; load more of them"
        )
    return Task(
        name, train.pick(kept), train.pick(valid), test, len(classes), tuple(classes.tolist())
    )


def _only(part: DataSet, classes: Tensor) -> DataSet:
    """The images of those classes, labelled by their place among them."""
    match = part.labels[:, None] == classes.to(part.labels.device)
    mine = match.any(1)
    return DataSet(part.images[mine], match[mine].int().argmax(1))


def require_learned(tasks: Mapping[str, Any], name: str) -> str:
    """``name``, if such a task was learnt. Raises ``DataError`` (``unknown-task``)."""
    if name not in tasks:
        found = ", ".join(tasks) or "none yet"
        raise DataError(
            "unknown-task",
            f"task {name!r} was not learnt ({found}) and has no network; learn it first",
        )
    return name


def require_new(tasks: Mapping[str, Any], name: str) -> None:
    """Raises ``DataError`` (``known-task``) if a task of that name was learnt already."""
    if name in tasks:
        raise DataError(
            "known-task",
            f"task {name!r} was learnt already and is not learnt again; choose another name",
        )
