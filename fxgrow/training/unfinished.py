"""A run that is not finished yet: a hidden directory beside the one that it becomes.

::

    runs/.mine.unfinished/         while ``runs/mine`` is being made
        lock                       held by the process that writes here, by nobody once it is dead
        run.json  recipe.yaml      what the run was started with
        log.jsonl                  event by event, as in a finished run
        metrics.csv  tensorboard   what other listeners write, as in a finished run
        checkpoint-0  -7  -8       the first checkpoint and the last two

``runs/mine`` appears in one piece at the end, and only then is this directory removed. A process
that is stopped in between leaves it, and whoever starts or resumes a run there finds it.
"""

import os
import shlex
import shutil
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fxgrow.argument_checks import checked
from fxgrow.documents import (
    RUN_OUTPUT,
    UNFINISHED_DIRECTORY,
    Document,
    StrictModel,
    atomic,
    check_kind,
    check_target,
    exclusive_lock,
    first_foreign,
    limits,
    lock_holder,
    os_errors_as,
    read_text,
    reading_errors,
    recover_directory,
    resolve_target,
    sha256,
    sync,
)
from fxgrow.errors import RecoveryWarning, RunError, SpecError
from fxgrow.training.checkpoints import Checkpoints
from fxgrow.training.directory import FOREIGN_TO_RUN, LOG, RECIPE_FILE, RESULT
from fxgrow.training.recipe import Recipe, read_recipe, recipe_text

LOCK, NOTES = "lock", "run.json"
_Text = Annotated[str, Field(max_length=limits.NAME)]


class RunNotes(StrictModel):
    """What a run was started with beside its recipe.

    Args:
        schema_version: version of the document.
        force: whether it replaces an earlier run.
        device: the name of the device.
        threads: how many threads torch computes with; another number may round differently.
        graphs: where the graphs of growth steps are written to, if they are.
        loggers: names of the listeners beside the log, in ``training.listeners.LOGGERS``.
    """

    schema_version: Literal[1]
    force: bool
    device: _Text
    threads: int = Field(ge=1, le=limits.THREADS)
    graphs: str | None = Field(max_length=limits.REFERENCE)
    loggers: tuple[_Text, ...] = Field(default=(), max_length=limits.OPTION_VALUES)


_NOTES_DOCUMENT = Document("notes of a run", RunNotes, 1)


@dataclass(frozen=True)
class UnfinishedRun:
    """A run that is being made, or was stopped.

    Args:
        target: the directory that it becomes.
        path: where it is now.
    """

    target: Path
    path: Path

    @property
    def log(self) -> Path:
        """The log of its events."""
        return self.path / LOG

    @property
    def checkpoints(self) -> Checkpoints:
        """Its checkpoints."""
        return Checkpoints(self.path)

    def recipe(self) -> Recipe:
        """What it was started with."""
        return read_recipe(self.path / RECIPE_FILE)

    def notes(self) -> RunNotes:
        """What it was started with beside the recipe."""
        return _NOTES_DOCUMENT.read(read_text(self.path / NOTES), NOTES)

    def begin(self, recipe: Recipe, notes: RunNotes) -> None:
        """Write down what the run is started with."""
        texts = {RECIPE_FILE: recipe_text(recipe), NOTES: notes.model_dump_json() + "\n"}
        with os_errors_as(self.target, RUN_OUTPUT):
            for name, text in texts.items():
                (self.path / name).write_text(text, encoding="utf-8")
                sync(self.path / name)
            sync(self.path)

    def epochs(self) -> int:
        """How many epochs are kept."""
        numbers = self.checkpoints.numbers
        if not numbers or numbers[-1] == 0:
            return 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whoever resumes hears of damage
            try:
                last = self.checkpoints.last()
            except RunError:
                return 0
        return 0 if last is None else len(last.state.seconds)

    def remove(self) -> None:
        """Remove the directory, which disappears in one piece; it stays if others use it too."""
        foreign = first_foreign(self.path, UNFINISHED_DIRECTORY) if self.path.is_dir() else None
        if foreign is not None:
            warnings.warn(
                f"{self.path} holds {foreign.name!r}, which no run has written, and is kept",
                RecoveryWarning,
                stacklevel=2,
            )
            return
        trash = self.path.parent / f".{self.target.name}.{uuid.uuid4().hex}{atomic.STAGING}"
        try:
            self.path.rename(trash)
        except OSError:
            trash = self.path
        shutil.rmtree(trash, ignore_errors=True)


@checked
@contextmanager
def new_run(
    target: Path, *, force: bool = False, go_on: str | None = None
) -> Iterator[UnfinishedRun]:
    """Begin a run that will become a directory, and keep all others from doing so.

    If the body raises, what was trained is kept from the first epoch on, and the error gets a note
    that says how to go on.

    Args:
        target: the directory of the finished run.
        force: replace an earlier run, and begin anew in the place of one that was stopped.
        go_on: the command that goes on with it; ``fxgrow resume`` and the target if None.

    Returns:
        A context manager that gives the run, in an empty directory.

    Raises:
        RunError: as ``run_directory``; ``run-in-progress``: another process makes one there;
            ``unfinished-run``: there is one that was stopped.

    Example:
        >>> with new_run(Path("runs/mine")) as run:
        ...     train_and_grow(model, data, settings, **growth, checkpoints=run.checkpoints)
    """
    resolved = resolve_target(target, RUN_OUTPUT)
    recover_directory(resolved)
    check_target(resolved, RUN_OUTPUT, FOREIGN_TO_RUN, force=force)
    with _locked(resolved) as run:
        _make_room(run, force)
        with _kept_on_failure(run, go_on or resume_command(target)):
            yield run
        run.remove()


@checked
@contextmanager
def stopped_run(target: Path, *, go_on: str | None = None) -> Iterator[UnfinishedRun | None]:
    """Go on with a run that was stopped.

    Args:
        target: the directory that it was to become.
        go_on: as for ``new_run``.

    Returns:
        A context manager that gives the run; None if the run in ``target`` is finished.

    Raises:
        RunError: ``nothing-to-resume``: there is no run, and was none; ``run-in-progress``.

    Example:
        >>> with stopped_run(Path("runs/mine")) as run:
        ...     print(run and run.epochs())
    """
    resolved = resolve_target(target, RUN_OUTPUT)
    recover_directory(resolved)
    path = unfinished_path(resolved)
    # A lock would make the directory, so it is looked for first.
    if not path.is_dir() or path.is_symlink():
        if (resolved / RESULT).is_file():
            yield None
            return
        raise RunError(
            "nothing-to-resume",
            f"{target} holds no run, and none was stopped there; start one with fxgrow grow",
        )
    with _locked(resolved) as run:
        _require_ours(run)
        if _is_published(run):  # and then the process was killed
            run.remove()
            yield None
            return
        with _kept_on_failure(run, go_on or resume_command(target)):
            yield run
        run.remove()


@checked
@contextmanager
def followed_run(target: Path, *, go_on: str | None = None) -> Iterator[UnfinishedRun]:
    """Take part in a run that another process of a group makes; nothing is written or removed.

    Args:
        target: the directory that it becomes.
        go_on: as for ``new_run``.

    Returns:
        A context manager that gives the run.

    Example:
        >>> with followed_run(Path("runs/mine")) as run:
        ...     train_and_grow(model, data, settings, **growth, checkpoints=run.checkpoints)
    """
    resolved = resolve_target(target, RUN_OUTPUT)
    run = UnfinishedRun(resolved, unfinished_path(resolved))
    try:
        yield run
    except BaseException as error:
        _note_epochs(error, run.epochs(), go_on or resume_command(target))
        raise


def unfinished_path(target: Path) -> Path:
    """Where a run lies that is to become ``target``."""
    return target.parent / f".{target.name}.unfinished"


def find_log(directory: Path) -> Path:
    """The log of a run, finished or not.

    Args:
        directory: of the run, or any directory that holds a log.

    Returns:
        Where it lies: in the directory, else beside it, where a run is made.

    Raises:
        SpecError: ``unreadable``: that is no path.
    """
    log = directory / LOG
    beside = unfinished_path(directory.absolute()) / LOG
    # A path may be longer than the file system allows.
    with reading_errors(directory):
        return beside if not log.exists() and beside.exists() else log


@contextmanager
def _locked(target: Path) -> Iterator[UnfinishedRun]:
    run = UnfinishedRun(target, unfinished_path(target))
    if run.path.is_symlink():
        raise RunError(
            "foreign-directory",
            f"{run.path} is a symbolic link, so no run is made there; move it away",
        )
    with os_errors_as(target, RUN_OUTPUT):
        lock = exclusive_lock(run.path / LOCK)
        is_mine = lock.__enter__()
    try:
        if not is_mine:
            raise RunError(
                "run-in-progress",
                f"{lock_holder(run.path / LOCK)} is making a run in {target}; wait for it, stop "
                "it, or choose another directory",
            )
        yield run
    finally:
        lock.__exit__(None, None, None)


def _make_room(run: UnfinishedRun, force: bool) -> None:
    """Clear away what a run left that was stopped, if it may be."""
    leftover = [path for path in run.path.iterdir() if path.name != LOCK]
    if not leftover:
        return
    _require_ours(run)
    epochs = run.epochs()
    if epochs and not force:
        raise RunError(
            "unfinished-run",
            f"a run to {run.target} was stopped after {_counted(epochs)} and is kept; go on with "
            f"it ({resume_command(run.target)}), or start anew (--force)",
        )
    warnings.warn(
        f"{run.path} was left by a run that was stopped after {_counted(epochs)}, and is cleared "
        "away",
        RecoveryWarning,
        stacklevel=2,
    )
    # The lock stays, which this process holds.
    with os_errors_as(run.target, RUN_OUTPUT):
        for path in leftover:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _require_ours(run: UnfinishedRun) -> None:
    foreign = first_foreign(run.path, UNFINISHED_DIRECTORY)
    if foreign is not None:
        name = str(foreign.relative_to(run.path))
        raise RunError(
            "foreign-directory",
            f"{run.path} holds {name!r}, which no run has written, so nothing is removed there; "
            "move it away",
        )


def _is_published(run: UnfinishedRun) -> bool:
    """Whether the finished run is in its place: logs hold times, so no two are alike."""
    published = run.target / LOG
    try:
        sizes = [check_kind(log, directory=False).st_size for log in (run.log, published)]
        return sizes[0] == sizes[1] and sha256(run.log) == sha256(published)
    except SpecError:  # one of them is missing, or a pipe, say
        return False


@contextmanager
def _kept_on_failure(run: UnfinishedRun, go_on: str) -> Iterator[None]:
    """Keep what was trained if the body raises, and note how to go on; else leave nothing."""
    try:
        yield
    except BaseException as error:
        epochs = run.epochs()
        _note_epochs(error, epochs, go_on)
        if not epochs:
            run.remove()
        raise


def _note_epochs(error: BaseException, epochs: int, go_on: str) -> None:
    """Let an error say how to go on, to whoever prints it; its class and code stay."""
    if epochs:
        error.add_note(f"{_counted(epochs)} kept; {go_on} goes on from there")


def resume_command(target: Path) -> str:
    """The command that goes on with a run, for a shell."""
    return f"fxgrow resume {shlex.quote(os.fspath(target))}"


def _counted(epochs: int) -> str:
    return "1 epoch" if epochs == 1 else f"{epochs} epochs"
