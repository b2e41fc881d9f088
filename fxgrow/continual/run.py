"""A stream of tasks, learned one after the other into a directory; it can be stopped and resumed.

::

    result.json    the plan, and the outcome of every task so far (``ContinualResult``)
    master/        the master network after the last of them (``storage``)

Both are written to a directory beside it, which takes its place in one piece: they are always of
the same task. Every task starts from the master network on disk. So it does not matter whether the
tasks before it were learned by the same process, and a run that was stopped ends with the bits of
one that was not.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from fxgrow.argument_checks import checked
from fxgrow.continual.expansion import ScoredExpansion
from fxgrow.continual.master_strategy import MasterStrategy
from fxgrow.continual.outcome import TaskOutcome
from fxgrow.continual.result import (
    CONTINUAL_VERSION,
    ClassLabels,
    ContinualResult,
    StreamPlan,
    read_continual,
)
from fxgrow.continual.storage import load_master, save_master
from fxgrow.continual.task import Task
from fxgrow.data import batches
from fxgrow.documents import (
    RUN_OUTPUT,
    check_target,
    recognition,
    recover_directory,
    resolve_target,
)
from fxgrow.errors import DataError, RunError, SpecError
from fxgrow.training import (
    EVALUATION_BATCH,
    FOREIGN_TO_RUN,
    RESULT,
    accuracy,
    run_directory,
    run_writing_errors,
)

MASTER_DIRECTORY = "master"
FOREIGN_TO_RESUMED = recognition.foreign_in_directory(
    recognition.CONTINUAL_DIRECTORY, keep_foreign=True
)
"""Finds what a run that is resumed must not replace."""

StreamListener = Callable[[ContinualResult], None]
"""Called with the result so far after every task."""


def _no_callback(result: ContinualResult) -> None:
    """Do nothing."""


@checked
def run_stream(
    tasks: Sequence[Task],
    plan: StreamPlan,
    out: Path,
    *,
    force: bool = False,
    callback: StreamListener = _no_callback,
) -> ContinualResult:
    """Learn those of a stream's tasks that a directory does not have yet; it is written after each.

    The networks are where the images of the tasks are, which may be another device than before.

    Args:
        tasks: all tasks of the stream, mostly ``plan.deal()``.
        plan: how they are learned.
        out: the directory; a run of the same plan in it is resumed.
        force: start anew, in the place of an earlier run.
        callback: called with the result so far after every task.

    Returns:
        The result after the last task.

    Raises:
        RunError: ``other-run`` for a directory with a run of another plan, and as
            ``run_directory``.
        SpecError: if the master network in the directory is damaged.
        DataError: ``no-images`` for a stream of no tasks, and as ``Master.learn``.

    Example:
        >>> plan = StreamPlan(data=DataChoice(name="digits"), tasks=5)
        >>> result = run_stream(plan.deal(), plan, Path("runs/digits"))
        >>> result.forgetting
        0.0
    """
    out = check_out(out, force=force)
    result = None if force else _earlier_result(plan, _labels(tasks), out)
    tasks_done = len(result.outcomes) if result else 0
    # Every task goes by way of the disk, so a resumed run has the same bits.
    for _ in tasks[tasks_done:]:
        replace = force or result is not None or _is_empty(out)
        result = _learn_next(tasks, plan, out, result, replace=replace)
        callback(result)
    if result is None:
        raise DataError(
            "no-images", "a stream of no tasks holds nothing to learn; give at least one task"
        )
    return result


@checked
def check_out(out: Path, *, force: bool = False) -> Path:
    """Check that a stream may be written to a directory, before any images are loaded.

    Args:
        out: the directory.
        force: whether an earlier run may be replaced.

    Returns:
        Its absolute path.

    Raises:
        RunError: if it holds what is no run, or cannot be written.

    Example:
        >>> check_out(Path("runs/digits"))
    """
    target = resolve_target(out, RUN_OUTPUT)
    recover_directory(target)
    # A directory with a result is looked at more closely once the plan is known.
    if force or not _may_hold_a_run(target):
        check_target(target, RUN_OUTPUT, FOREIGN_TO_RUN, force=force)
    return target


def _may_hold_a_run(out: Path) -> bool:
    return (out / RESULT).exists() or _is_empty(out)


def _is_empty(out: Path) -> bool:
    return out.is_dir() and not out.is_symlink() and not any(out.iterdir())


def _learn_next(
    tasks: Sequence[Task],
    plan: StreamPlan,
    out: Path,
    before: ContinualResult | None,
    *,
    replace: bool,
) -> ContinualResult:
    """Learn the task after those of ``before``; both files of it replace the old ones."""
    strategy = _strategy(plan, tasks[0], out, before)
    # A run that is resumed replaces its own files alone.
    resumes = before is not None
    stranger = FOREIGN_TO_RESUMED if resumes else FOREIGN_TO_RUN
    with run_directory(out, replace=replace, stranger=stranger, strangers_stay=resumes) as staging:
        result = _next_result(strategy, tasks, plan, before)
        with run_writing_errors(out):
            if resumes:
                _keep_others(out, staging)
            (staging / RESULT).write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
        save_master(strategy.master, staging / MASTER_DIRECTORY)
    return result


def _next_result(
    strategy: MasterStrategy,
    tasks: Sequence[Task],
    plan: StreamPlan,
    before: ContinualResult | None,
) -> ContinualResult:
    """Learn the next task, and measure all tasks so far."""
    # Tasks are counted from 1; the seed of a task depends on its number alone.
    outcomes, rows = (before.outcomes, before.accuracies) if before else ((), ())
    number = len(outcomes) + 1
    stats = strategy.learn(tasks[number - 1], seed=plan.seed + number)
    outcome = TaskOutcome.model_validate(stats.details, strict=False)
    row = tuple(_test_accuracy(strategy, task) for task in tasks[:number])
    return ContinualResult(
        schema_version=CONTINUAL_VERSION,
        plan=plan,
        labels=_labels(tasks),
        outcomes=(*outcomes, outcome),
        accuracies=(*rows, row),
    )


def _keep_others(out: Path, staging: Path) -> None:
    """Copy what people put beside our files, a picture for example."""
    for path in out.iterdir():
        if path.is_dir() and path.name != MASTER_DIRECTORY:
            shutil.copytree(path, staging / path.name, symlinks=True)
        elif not path.is_dir() and path.name != RESULT:
            shutil.copy2(path, staging, follow_symlinks=False)


def _labels(tasks: Sequence[Task]) -> tuple[ClassLabels, ...]:
    return tuple(task.labels for task in tasks)


def _earlier_result(
    plan: StreamPlan, labels: tuple[ClassLabels, ...], out: Path
) -> ContinualResult | None:
    """What ``out`` holds of this run, if anything."""
    if not (out / RESULT).exists():
        return None
    try:
        result = read_continual(out)
    except SpecError as error:
        raise _other_run(out, f"no stream of tasks that can go on ({error})") from error
    # Learning on under another plan would give a result that no plan describes.
    if result.plan != plan:
        raise _other_run(out, f"a run of another plan ({result.plan.differs(plan)})")
    if result.labels != labels:
        raise _other_run(out, "a run of other classes")
    return result


def _other_run(out: Path, content: str) -> RunError:
    return RunError(
        "other-run",
        f"{out} holds {content}, so it is kept; choose another directory or start anew (--force)",
    )


def _strategy(
    plan: StreamPlan, task: Task, out: Path, result: ContinualResult | None
) -> MasterStrategy:
    """A strategy on the device of the images; if there is a result, with its master network."""
    device = task.train.images.device
    expansion = ScoredExpansion(method=plan.method.settings)
    strategy = MasterStrategy(
        plan.network(task).to(device),
        (task.train.images[:1],),
        settings=plan.settings,
        expansion=expansion,
        budget=plan.budget,
        target=plan.target,
    )
    if result is not None:
        master = load_master(out / MASTER_DIRECTORY, expansion=expansion)
        strategy.master = master.to(device)
        # The two files are replaced together, so somebody has changed one of them.
        if list(master.tasks) != [outcome.task for outcome in result.outcomes]:
            raise _other_run(out, f"a master network of other tasks than {RESULT}")
    return strategy


def _test_accuracy(strategy: MasterStrategy, task: Task) -> float:
    return accuracy(strategy.network(task.name), batches(task.test, EVALUATION_BATCH))
