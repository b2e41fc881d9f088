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
from tools.experiments.pays.arms import GROWN_ARMS, Allocation, Grow, Grown, Moment
from tools.experiments.pays.flops import FlopCounter
from tools.experiments.pays.task import Problem, Progress, Shortened, Task

NUM_POINTS = 20


@dataclass(frozen=True)
class Stage:
    """A size that the network had, when its training ended.

    Args:
        parameters: of the network.
        flops: of the run until then.
        seconds: likewise, of the processor.
        error: then.
        accuracy: then; None if the problem has none.
    """

    parameters: int
    flops: int
    seconds: float
    error: float
    accuracy: float | None


@dataclass(frozen=True)
class GrowthCost:
    """One growth: what it cost, and what it did to the loss on images that decide nothing.

    Args:
        flops: of the growth.
        seconds: of the processor.
        wall: seconds of the clock.
        parameters: afterwards.
        loss_before: right before; None if the problem does not look at it.
        loss_after: right after.
    """

    flops: int
    seconds: float
    wall: float
    parameters: int
    loss_before: float | None
    loss_after: float | None


@dataclass
class Course:
    """What one run did.

    Args:
        error: at the end.
        curve: (share of the FLOPs that the task allows, error) along the way.
        flops: of the whole run.
        search_flops: the part that growth spent.
        seconds: of processor time, and the part that growth spent.
        allocations: what each width gained at each growth.
        parameters: of the final network.
        stages: every size that the network had.
        growths: between them.
    """

    error: float = float("nan")
    curve: list[tuple[float, float]] = field(default_factory=list)
    flops: int = 0
    search_flops: int = 0
    seconds: float = 0
    search_seconds: float = 0
    allocations: list[Allocation] = field(default_factory=list)
    parameters: int = 0
    stages: list[Stage] = field(default_factory=list)
    growths: list[GrowthCost] = field(default_factory=list)

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


def stage_ends(task: Task, limit: int) -> list[int]:
    """The FLOPs at which a grown network grows, and those at which it is done."""
    growths = len(task.widths) - 1
    ends = [int(limit * task.growth_ends * (number + 1) / growths) for number in range(growths)]
    return [*ends, limit]


def scratch_size(arm: str) -> int | None:
    """After how many growths the structure is that an arm trains from scratch; None: no such arm.

    ``scratch`` is the final structure, and gets all FLOPs; ``scratch 2`` is that of the reference
    after 2 growths, and gets what the reference had spent when it grew again.
    """
    name, _, number = arm.partition(" ")
    if name != "scratch":
        return None
    return int(number) if number else -1


def run(
    task: Task, arm: str, seed: int, rate: float, allocations: Sequence[Allocation] = ()
) -> Course:
    """Run one arm on one problem.

    Args:
        task: the family of problems.
        arm: a key of ``GROWN_ARMS`` or ``Task.shortened``, ``scratch`` (``scratch_size``),
            ``narrow`` or ``full``.
        seed: of the problem, the first weights and all choices.
        rate: the largest learning rate.
        allocations: what the reference arm's widths gained at each growth, with the same seed; arms
            that do not allocate, and scratch, follow them.

    Returns:
        What it did.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    problem = task.draw(seed)
    arm, share = task.shortened.get(arm, Shortened(arm, 1.0))
    allowed = total_flops(task, problem)
    ends = stage_ends(task, int(share * allowed))
    model = task.make(task.widths[0])  # the same trunk for all arms of a seed
    course, started = Course(), time.process_time()
    training = Training(task, problem, course, ends[-1], rate, started)
    size = scratch_size(arm)
    if size is not None:
        model = _scratch(task, model, problem, allocations[: None if size < 0 else size], seed)
        training = Training(task, problem, course, ends[size], rate, started)
    elif arm == "full":
        model = _full(task, seed)
    if arm in GROWN_ARMS:
        model = _grown(task, GROWN_ARMS[arm], model, training, ends, allocations, seed)
    else:
        training.until(model, task.optimizer(model.parameters(), rate), training.limit)
    course.seconds = time.process_time() - started
    course.error = course.stages[-1].error
    course.curve.append((course.flops / training.limit, course.error))
    course.curve = [(share * along, error) for along, error in course.curve]
    course.parameters = _count(model)
    return course


@dataclass
class Training:
    """Trains the networks of one run, and notes what it did.

    Args:
        task: the family of problems.
        problem: gives the batches.
        course: where it is noted.
        limit: FLOPs of the run.
        rate: the largest learning rate.
        started: processor seconds when the run began.
    """

    task: Task
    problem: Problem
    course: Course
    limit: int
    rate: float
    started: float

    def until(self, model: nn.Module, optimizer: Optimizer, end: int) -> None:
        """Train a network until so many FLOPs are spent; that is the end of a stage."""
        course, problem = self.course, self.problem
        cost, begin = step_flops(model, problem), course.flops
        model.train()
        while course.flops + cost <= end:
            spent = course.flops / self.limit
            if spent * NUM_POINTS >= len(course.curve):
                course.curve.append((spent, problem.error(model)))
            progress = Progress(spent, (course.flops - begin) / (end - begin))
            for group in optimizer.param_groups:
                group["lr"] = self.rate * self.task.rate_at(progress)
            inputs, target = next(problem.train)
            optimizer.zero_grad()
            problem.loss_fn(model(inputs), target).backward()
            optimizer.step()
            course.flops += cost
        self._end_stage(model)

    def _end_stage(self, model: nn.Module) -> None:
        seconds = time.process_time() - self.started
        error, accuracy = self.problem.error(model), None
        if self.problem.accuracy is not None:
            accuracy = self.problem.accuracy(model)
        self.course.stages.append(Stage(_count(model), self.course.flops, seconds, error, accuracy))

    def charge(self, grown: Grown, before: float | None) -> None:
        """Note a growth and what it cost."""
        course, after = self.course, self.held_out(grown.model)
        cost = (grown.flops, grown.seconds, grown.wall, _count(grown.model))
        course.growths.append(GrowthCost(*cost, before, after))
        course.allocations.append(grown.allocation)
        course.flops += grown.flops
        course.search_flops += grown.flops
        course.search_seconds += grown.seconds

    def held_out(self, model: nn.Module) -> float | None:
        """The loss on images that decide nothing, if the problem looks at it."""
        measure = self.problem.held_out_loss
        return None if measure is None else measure(model)


def _grown(
    task: Task,
    grow: Grow,
    model: nn.Module,
    training: Training,
    ends: Sequence[int],
    allocations: Sequence[Allocation],
    seed: int,
) -> nn.Module:
    """Train and grow by turns.

    Args:
        task: the family of problems.
        grow: the arm.
        model: the trunk.
        training: trains it.
        ends: FLOPs at which it grows, and those of the whole run.
        allocations: of the reference arm.
        seed: of the choices of the first growth; the next one has the next.

    Returns:
        The network at the end of its training.
    """
    problem = training.problem
    optimizer = task.optimizer(model.parameters(), training.rate)
    names = _growing(task, model, problem)
    for number, end in enumerate(ends[:-1]):
        training.until(model, optimizer, end)
        if task.blocks:  # the blocks of the last growth have widths of their own
            names = _growing(task, model, problem)
        difference = task.widths[number + 1] - task.widths[number]
        neurons = difference * (task.neurons_per_unit or len(names))
        blocks = task.blocks[number + 1] - task.blocks[number] if task.blocks else 0
        wanted = allocations[number] if allocations else {}
        before = training.held_out(model)
        grown = grow(
            model, Moment(problem, names, neurons, blocks, wanted, optimizer, seed + number)
        )
        training.charge(grown, before)
        model = grown.model
        optimizer = grown.optimizer or task.optimizer(model.parameters(), training.rate)
    training.until(model, optimizer, ends[-1])
    return model


def _count(model: nn.Module) -> int:
    """Parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def _growing(task: Task, model: nn.Module, problem: Problem) -> list[str]:
    """The names of the widths that grow."""
    inputs, _ = next(problem.train)
    names = []
    for width in couple(model, inputs).widths:
        if width.growable and any(fnmatch(width.name, one) for one in task.grown_widths):
            names.append(width.name)
    return names


def _full(task: Task, seed: int) -> nn.Module:
    if task.full is None:
        raise ValueError(f"the task {task.name} has no network of full size")
    torch.manual_seed(seed)
    return task.full()


def _scratch(
    task: Task, model: nn.Module, problem: Problem, allocations: Sequence[Allocation], seed: int
) -> nn.Module:
    """The structure that these growths lead to, with weights drawn anew."""
    total: dict[str, int] = {}
    for allocation in allocations:
        for name, count in allocation.items():
            total[name] = total.get(name, 0) + count
    if not total:
        torch.manual_seed(seed)
        return task.make(task.widths[-1])
    inputs, _ = next(problem.train)
    wide = fxgrow.widen(model, total, inputs, how="new").module
    return from_scratch(wide, seed)
