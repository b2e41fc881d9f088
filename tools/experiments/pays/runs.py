"""The runs of a task, each from its file if it is there: tuned on some seeds, then run on others."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tools.experiments.pays.analysis import best_rate, compared, summary
from tools.experiments.pays.course import run, scratch_size
from tools.experiments.pays.files import read, write
from tools.experiments.pays.task import Task


def run_task(task: Task, num_seeds: int, parts: Path) -> dict[str, dict[str, Any]]:
    """All arms of one task: tuned on other seeds, then run on those of the result."""
    rates = tuned(task, parts)
    arms: dict[str, dict[str, Any]] = {}
    for arm in task.arms:
        runs = [part(task, arm, seed, rates[arm], rates, parts) for seed in range(num_seeds)]
        arms[arm] = summary(rates[arm], task.rates, runs)
    return compared(arms, task.arms[0])


def tuned(task: Task, parts: Path) -> dict[str, float]:
    """The best rate of every arm on the tuning seeds; all sizes from scratch share one."""
    if len(task.rates) == 1:
        return dict.fromkeys(task.arms, task.rates[0])
    rates: dict[str, float] = {}
    briefly = task
    if task.tuning_steps is not None:
        briefly = replace(task, name=f"{task.name}/tuning", steps=task.tuning_steps)
    for arm in task.arms:
        if scratch_size(arm) is not None and "scratch" in rates:
            rates[arm] = rates["scratch"]
            continue
        errors = {}
        for rate in task.rates:
            runs = [part(briefly, arm, seed, rate, rates, parts) for seed in task.tuning_seeds]
            errors[rate] = [run["error"] for run in runs]
        rates[arm] = best_rate(errors)
    return rates


def part(
    task: Task, arm: str, seed: int, rate: float, rates: dict[str, float], parts: Path
) -> dict[str, Any]:
    """One run, from its file if it is there; with the allocation of the reference."""
    path = parts / task.name / f"{arm}-{seed}-{rate}.json"
    if not path.exists():
        allocations: Sequence[Any] = ()
        if arm != task.arms[0]:
            reference = part(task, task.arms[0], seed, rates[task.arms[0]], rates, parts)
            allocations = reference["allocations"]
        write(path, run(task, arm, seed, rate, allocations).as_json())
        print(task.name, path.stem, read(path)["error"], flush=True)
    return read(path)
