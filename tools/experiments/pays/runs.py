"""The runs of a task, each from its file if it is there: tuned on some seeds, then run on others."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tools.experiments.pays.analysis import TunedRate, best_rate, compared, summary
from tools.experiments.pays.course import run, scratch_size
from tools.experiments.pays.files import read, write
from tools.experiments.pays.task import Task


def run_task(task: Task, num_seeds: int, parts: Path) -> dict[str, dict[str, Any]]:
    """All arms of one task: tuned on other seeds, then run on those of the result."""
    rates = tuned(task, parts)
    best = {arm: found.best for arm, found in rates.items()}
    arms: dict[str, dict[str, Any]] = {}
    for arm in task.arms:
        runs = [part(task, arm, seed, rates[arm].best, best, parts) for seed in range(num_seeds)]
        arms[arm] = summary(rates[arm], runs)
    return compared(arms, task.arms[0])


LENGTHS = (0.25, 0.5, 1.0, 2.0)
"""Of a task's steps, to see where its errors level off."""


def errors_by_length(task: Task, parts: Path) -> dict[float, dict[str, float]]:
    """The errors of the widest and of the narrow network after more and fewer steps.

    They are those of a tuning seed, at the best of the task's rates for each length, and say whether
    the task is long enough to see what a network of its size can do.
    """
    (seed, *_) = task.tuning_seeds
    found: dict[float, dict[str, float]] = {}
    for length in LENGTHS:
        shorter = replace(task, name=f"{task.name}/length {length}", steps=int(length * task.steps))
        found[length] = {}
        for arm in ("scratch", "narrow"):
            # Without allocations, scratch is the widest network that the task makes.
            errors = []
            for rate in task.rates:
                path = parts / shorter.name / f"{arm}-{seed}-{rate}.json"
                if not path.exists():
                    write(path, run(shorter, arm, seed, rate).as_json())
                errors.append(read(path)["error"])
            found[length][arm] = min(errors)
            print(task.name, length, arm, found[length][arm], flush=True)
    return found


def tuned(task: Task, parts: Path) -> dict[str, TunedRate]:
    """The best rate of every arm on the tuning seeds; all sizes from scratch share one."""
    if len(task.rates) == 1:
        return dict.fromkeys(task.arms, TunedRate(task.rates[0], is_at_edge=True))
    found: dict[str, TunedRate] = {}
    best: dict[str, float] = {}
    briefly = task
    if task.tuning_steps is not None:
        briefly = replace(task, name=f"{task.name}/tuning", steps=task.tuning_steps)
    for arm in task.arms:
        if arm in task.shortened:
            found[arm] = found[task.shortened[arm].arm]
        elif scratch_size(arm) is not None and "scratch" in found:
            found[arm] = found["scratch"]
        else:
            errors_at = partial(_tuning_errors, briefly, arm, best, parts)
            found[arm] = search_rate(task.rates, errors_at, task.extensions)
        best[arm] = found[arm].best
    return found


def _tuning_errors(
    task: Task, arm: str, best: dict[str, float], parts: Path, rate: float
) -> list[float]:
    """The errors of the seeds that choose the rates."""
    runs = [part(task, arm, seed, rate, best, parts) for seed in task.tuning_seeds]
    return [run["error"] for run in runs]


def search_rate(
    rates: Sequence[float], errors_at: Callable[[float], Sequence[float]], extensions: int
) -> TunedRate:
    """The rate of least error: a grid, which is made longer while the best one is at its edge.

    Args:
        rates: the grid, rising.
        errors_at: the errors of the tuning seeds at a rate.
        extensions: how often the grid may be made longer by one rate.

    Returns:
        The best rate, and whether it is at the edge still.
    """
    errors = {rate: errors_at(rate) for rate in rates}
    for _ in range(extensions):
        tried, best = sorted(errors), best_rate(errors)
        if best == tried[-1]:
            rate = rounded(best * best / tried[-2])  # as far beyond as the last step of the grid
        elif best == tried[0]:
            rate = rounded(best * best / tried[1])
        else:
            break
        errors[rate] = errors_at(rate)
    best = best_rate(errors)
    return TunedRate(best, is_at_edge=best in (min(errors), max(errors)))


def rounded(rate: float) -> float:
    """A rate with two digits, so that the names of files stay short and the same."""
    return float(f"{rate:.2g}")


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
