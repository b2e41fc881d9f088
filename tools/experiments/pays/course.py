"""One run: training and growth up to a number of FLOPs, search charged."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch

import torch
from torch import nn
from torch.optim import Optimizer

import fxgrow
from fxgrow.coupling import couple
from fxgrow.methods import from_scratch
from tools.experiments.pays.arms import GROWN_ARMS, Allocation, Moment
from tools.experiments.pays.flops import FlopCounter
from tools.experiments.pays.task import Problem, Task

DECAY_STARTS = 0.7
"""The share of all FLOPs after which the learning rate falls linearly to 0."""
NUM_POINTS = 20


@dataclass
class Course:
    """What one run did.

    Args:
        error: at the end.
        curve: (share of the FLOPs, error) along the way.
        flops: of the whole run.
        search_flops: the part that growth spent.
        seconds: of processor time, and the part that growth spent.
        allocations: what each width gained at each growth.
        parameters: of the final network.
    """

    error: float = float("nan")
    curve: list[tuple[float, float]] = field(default_factory=list)
    flops: int = 0
    search_flops: int = 0
    seconds: float = 0
    search_seconds: float = 0
    allocations: list[Allocation] = field(default_factory=list)
    parameters: int = 0

    def as_json(self) -> dict[str, object]:
        """Everything, as JSON takes it."""
        return asdict(self)


def step_flops(model: nn.Module, problem: Problem) -> int:
    """FLOPs of one training step."""
    inputs, target = next(problem.train)
    with FlopCounter() as counter:
        problem.loss_fn(model(inputs), target).backward()
    for parameter in model.parameters():
        parameter.grad = None
    return counter.total


def total_flops(task: Task, problem: Problem) -> int:
    """What every arm may spend: the task's steps of the widest network."""
    return task.steps * step_flops(task.make(task.widths[-1]), problem)


def run(
    task: Task, arm: str, seed: int, rate: float, allocations: Sequence[Allocation] = ()
) -> Course:
    """Run one arm on one problem.

    Args:
        task: the family of problems.
        arm: a key of ``GROWN_ARMS``, ``scratch`` or ``narrow``.
        seed: of the problem, the first weights and all choices.
        rate: learning rate of Adam.
        allocations: what the reference arm's widths gained at each growth, with the same seed; arms
            that do not allocate, and scratch, follow them.

    Returns:
        What it did.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    problem = task.draw(seed)
    limit = total_flops(task, problem)
    model = task.make(task.widths[0])  # the same trunk for all arms of a seed
    course = Course()
    started = time.process_time()
    if arm == "scratch":
        model = _scratch(task, model, problem, allocations, seed)
    optimizer = task.optimizer(model.parameters(), rate)
    if arm not in GROWN_ARMS:
        _train(model, optimizer, problem, course, limit, limit, rate)
    else:
        growths = len(task.widths) - 1
        names = _growing(task, model, problem)
        for number in range(growths):
            stage_end = int(limit * task.growth_ends * (number + 1) / growths)
            _train(model, optimizer, problem, course, limit, stage_end, rate)
            neurons = (task.widths[number + 1] - task.widths[number]) * len(names)
            wanted = allocations[number] if allocations else {}
            moment = Moment(problem, names, neurons, wanted, optimizer, seed + number)
            grown = GROWN_ARMS[arm](model, moment)
            model = grown.model
            optimizer = grown.optimizer or task.optimizer(model.parameters(), rate)
            course.allocations.append(grown.allocation)
            course.flops += grown.flops
            course.search_flops += grown.flops
            course.search_seconds += grown.seconds
        _train(model, optimizer, problem, course, limit, limit, rate)
    course.seconds = time.process_time() - started
    course.error = problem.error(model)
    course.curve.append((course.flops / limit, course.error))
    course.parameters = sum(parameter.numel() for parameter in model.parameters())
    return course


def _growing(task: Task, model: nn.Module, problem: Problem) -> list[str]:
    """The names of the widths that grow."""
    inputs, _ = next(problem.train)
    names = []
    for width in couple(model, inputs).widths:
        if width.growable and any(fnmatch(width.name, one) for one in task.grown_widths):
            names.append(width.name)
    return names


def _scratch(
    task: Task, model: nn.Module, problem: Problem, allocations: Sequence[Allocation], seed: int
) -> nn.Module:
    """The final structure with weights drawn anew."""
    if not allocations:
        torch.manual_seed(seed)
        return task.make(task.widths[-1])
    total: dict[str, int] = {}
    for allocation in allocations:
        for name, count in allocation.items():
            total[name] = total.get(name, 0) + count
    inputs, _ = next(problem.train)
    wide = fxgrow.widen(model, total, inputs, how="new").module
    return from_scratch(wide, seed)


def _train(
    model: nn.Module,
    optimizer: Optimizer,
    problem: Problem,
    course: Course,
    limit: int,
    until: int,
    rate: float,
) -> None:
    """Train until so many FLOPs are spent."""
    cost = step_flops(model, problem)
    model.train()
    while course.flops + cost <= until:
        progress = course.flops / limit
        if progress * NUM_POINTS >= len(course.curve):
            course.curve.append((progress, problem.error(model)))
        decay = min(1.0, (1 - progress) / (1 - DECAY_STARTS))
        for group in optimizer.param_groups:
            group["lr"] = rate * decay
        inputs, target = next(problem.train)
        optimizer.zero_grad()
        problem.loss_fn(model(inputs), target).backward()
        optimizer.step()
        course.flops += cost
