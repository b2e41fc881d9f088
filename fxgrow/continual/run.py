"""A stream of tasks, learnt one after the other into a directory that can be stopped anywhere and goes on.

::

    result.json    what it was told, and what came of every task so far (``ContinualResult``)
    master/        the master network after the last of them (``storage``)

Both are written to a directory beside it, which takes its place in one piece: they are always of the same task.
Every task starts from the master network on disk. So it does not matter whether the tasks before it were learnt by
the same process, and a run that was stopped ends with the bits of one that was not.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from fxgrow.continual.expansion import ScoredExpansion
from fxgrow.continual.master_strategy import _EVALUATION_BATCH, MasterStrategy
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
from fxgrow.training import FOREIGN_TO_RUN, RESULT, accuracy, run_directory, run_writing_errors

MASTER_DIRECTORY = "master"
GOING_ON = recognition.foreign_in_directory(recognition.CONTINUAL_DIRECTORY, keep_foreign=True)

StreamListener = Callable[[ContinualResult], None]


def no_callback(result: ContinualResult) -> None:
    """Listen to nothing."""


def run_stream(
    tasks: Sequence[Task],
    plan: StreamPlan,
    out: Path,
    *,
    force: bool = False,
    callback: StreamListener = no_callback,
) -> ContinualResult:
    """Learn those of ``tasks`` (mostly ``plan.deal()``) that ``out`` does not have yet; it is written after each.

    The networks are where the images of the tasks are, which may be another device than before.
    ``force``: start anew, in the place of an earlier run. ``listen`` hears the result so far after every task. Raises
    ``RunError``: ``other-run`` for a directory with a run of another plan, and as ``run_directory``; ``SpecError`` if
    its master network is damaged.
    """
    out = check_out(out, force=force)
    result = None if force else _begun(plan, _labels(tasks), out)
    for _ in tasks[len(result.outcomes) if result else 0 :]:
        result = _learn(
            tasks, plan, out, result, replace=force or result is not None or _is_empty(out)
        )
        callback(result)
    if result is None:
        raise DataError(
            "no-images", "a stream of no tasks holds nothing to learn; give at least one task"
        )
    return result


def check_out(out: Path, *, force: bool = False) -> Path:
    """``out`` from the root on, for what has to be said before any images are loaded. Raises ``RunError``."""
    place = resolve_target(out, RUN_OUTPUT)
    recover_directory(place)
    if force or not _may_hold_a_run(place):
        check_target(place, RUN_OUTPUT, FOREIGN_TO_RUN, force=force)
    return place


def _may_hold_a_run(out: Path) -> bool:
    return (out / RESULT).exists() or _is_empty(out)


def _is_empty(out: Path) -> bool:
    return out.is_dir() and not out.is_symlink() and not any(out.iterdir())


def _learn(
    tasks: Sequence[Task],
    plan: StreamPlan,
    out: Path,
    before: ContinualResult | None,
    *,
    replace: bool,
) -> ContinualResult:
    """Learn the task that comes after those of ``before``, and put both files of it in the place of the old ones."""
    learner = _learner(plan, tasks[0], out, before)
    outcomes, rows = (before.outcomes, before.accuracies) if before else ((), ())
    number = len(outcomes) + 1
    # A run that goes on replaces its own files alone.
    going_on = before is not None
    stranger = GOING_ON if going_on else FOREIGN_TO_RUN
    with run_directory(out, replace=replace, stranger=stranger, strangers_stay=going_on) as staging:
        learnt = learner.learn(tasks[number - 1], seed=plan.seed + number)
        result = ContinualResult(
            schema_version=CONTINUAL_VERSION,
            plan=plan,
            labels=_labels(tasks),
            outcomes=(*outcomes, TaskOutcome.model_validate(learnt.details, strict=False)),
            accuracies=(*rows, tuple(_right(learner, task) for task in tasks[:number])),
        )
        with run_writing_errors(out):
            if before:
                _keep_others(out, staging)
            (staging / RESULT).write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
        save_master(learner.master, staging / MASTER_DIRECTORY)
    return result


def _keep_others(out: Path, staging: Path) -> None:
    """What people put beside our files, a picture say, stays."""
    for path in out.iterdir():
        if path.is_dir() and path.name != MASTER_DIRECTORY:
            shutil.copytree(path, staging / path.name, symlinks=True)
        elif not path.is_dir() and path.name != RESULT:
            shutil.copy2(path, staging, follow_symlinks=False)


def _labels(tasks: Sequence[Task]) -> tuple[ClassLabels, ...]:
    return tuple(task.labels for task in tasks)


def _begun(plan: StreamPlan, labels: tuple[ClassLabels, ...], out: Path) -> ContinualResult | None:
    """What ``out`` holds of this run, if anything."""
    if not (out / RESULT).exists():
        return None
    try:
        found = read_continual(out)
    except SpecError as error:
        raise _other(out, f"no stream of tasks that can go on ({error})") from error
    if found.plan != plan:
        raise _other(out, f"a run of another plan ({found.plan.differs(plan)})")
    if found.labels != labels:
        raise _other(out, "a run of other classes")
    return found


def _other(out: Path, held: str) -> RunError:
    return RunError(
        "other-run",
        f"{out} holds {held}, so it is kept; choose another directory or start anew (--force)",
    )


def _learner(
    plan: StreamPlan, task: Task, out: Path, result: ContinualResult | None
) -> MasterStrategy:
    """Where the images of ``task`` are; with the master network of ``out`` if there is a result already."""
    device = task.train.images.device
    expansion = ScoredExpansion(method=plan.method.settings)
    learner = MasterStrategy(
        plan.network(task).to(device),
        (task.train.images[:1],),
        settings=plan.settings,
        expansion=expansion,
        budget=plan.budget,
        target=plan.target,
    )
    if result is not None:
        learner.master = load_master(out / MASTER_DIRECTORY, expansion=expansion).to(device)
        if list(learner.master.tasks) != [outcome.task for outcome in result.outcomes]:
            raise _other(out, f"a master network of other tasks than {RESULT}")
    return learner


def _right(learner: MasterStrategy, task: Task) -> float:
    return accuracy(learner.network(task.name), batches(task.test, _EVALUATION_BATCH))
