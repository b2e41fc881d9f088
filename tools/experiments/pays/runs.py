"""The runs of a task, each from its file if it is there: tuned on some seeds, then run on others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tools.experiments.pays.analysis import Setting, Tuned, best_value, compared, summary
from tools.experiments.pays.arms import GROWN_ARMS
from tools.experiments.pays.course import run, scratch_size
from tools.experiments.pays.files import read, write
from tools.experiments.pays.task import Task

Settings = Mapping[str, Setting]
"""What was tuned, by arm."""


def run_task(task: Task, num_seeds: int, parts: Path) -> dict[str, dict[str, Any]]:
    """All arms of one task: tuned on other seeds, then run on those of the result."""
    settings = tuned(task, parts)
    arms: dict[str, dict[str, Any]] = {}
    for arm in task.arms:
        runs = [part(task, arm, seed, settings, parts) for seed in range(num_seeds)]
        arms[arm] = summary(settings[arm], runs)
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


def tuned(task: Task, parts: Path) -> dict[str, Setting]:
    """The settings of every arm that are best on the tuning seeds; sizes from scratch share one."""
    found: dict[str, Setting] = {}
    briefly = task
    if task.tuning_steps is not None:
        briefly = replace(task, name=f"{task.name}/tuning", steps=task.tuning_steps)
    for arm in task.arms:
        if arm in task.shortened:
            found[arm] = found[task.shortened[arm].arm]
        elif scratch_size(arm) is not None and "scratch" in found:
            found[arm] = found["scratch"]
        else:
            found[arm] = _tuned_arm(briefly, arm, found, parts)
    return found


def _tuned_arm(task: Task, arm: str, found: Settings, parts: Path) -> Setting:
    """First the rate, at the task's own moments of growth, then the moments at that rate."""
    at_own = Tuned(task.growth_ends, is_at_edge=False) if arm in GROWN_ARMS else None

    def errors_with(rate: float, moment: Tuned | None) -> list[float]:
        setting = Setting(Tuned(rate, is_at_edge=False), moment)
        settings = {**found, arm: setting}
        return [part(task, arm, seed, settings, parts)["error"] for seed in task.tuning_seeds]

    rate = Tuned(task.rates[0], is_at_edge=True)
    if len(task.rates) > 1:
        rate = search_rate(task.rates, partial(errors_with, moment=at_own), task.extensions)
    if at_own is None or not task.moments:
        return Setting(rate, at_own)
    errors = {}
    for moment in task.moments:
        errors[moment] = errors_with(rate.best, Tuned(moment, is_at_edge=False))
    best = best_value(errors)
    return Setting(rate, Tuned(best, is_at_edge=best in (min(errors), max(errors))))


def search_rate(
    rates: Sequence[float], errors_at: Callable[[float], Sequence[float]], extensions: int
) -> Tuned:
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
        tried, best = sorted(errors), best_value(errors)
        if best == tried[-1]:
            rate = rounded(best * best / tried[-2])  # as far beyond as the last step of the grid
        elif best == tried[0]:
            rate = rounded(best * best / tried[1])
        else:
            break
        errors[rate] = errors_at(rate)
    best = best_value(errors)
    return Tuned(best, is_at_edge=best in (min(errors), max(errors)))


def rounded(rate: float) -> float:
    """A rate with two digits, so that the names of files stay short and the same."""
    return float(f"{rate:.2g}")


def part(task: Task, arm: str, seed: int, settings: Settings, parts: Path) -> dict[str, Any]:
    """One run, from its file if it is there; with the allocation of the reference."""
    rate, moment = settings[arm].rate.best, settings[arm].growth_ends
    name = f"{arm}-{seed}-{rate}"
    if moment is not None:
        task = replace(task, growth_ends=moment.best)
        name = f"{name}-{moment.best}"
    path = parts / task.name / f"{name}.json"
    if not path.exists():
        allocations: Sequence[Any] = ()
        if arm != task.arms[0]:
            reference = part(task, task.arms[0], seed, settings, parts)
            allocations = reference["allocations"]
        write(path, run(task, arm, seed, rate, allocations).as_json())
        print(task.name, path.stem, read(path)["error"], flush=True)
    return read(path)
