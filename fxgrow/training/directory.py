"""The directory that a run leaves behind: all of it or nothing.

::

    config.json  model.safetensors    the grown model, as ``fxgrow.load`` reads it
    initial/                          the model as it was before the run, in the same form
    recipe.yaml                       what the run was made of: ``fxgrow run`` repeats it
    result.json  log.jsonl            the run in numbers, and event by event
"""

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fxgrow.errors import RunError
from fxgrow.spec import ArchitectureSpec, read_text, save
from fxgrow.training.recipe import Recipe, recipe_text
from fxgrow.training.result import RUN_RESULT, Result
from fxgrow.training.run import Network, Run

RECIPE_FILE = "recipe.yaml"
RESULT = "result.json"
LOG = "log.jsonl"
INITIAL = "initial"
SEARCHED = "search.json"
OURS = ("config.json", RESULT, SEARCHED, "master.json")
ASIDE = ".old"
"""What a directory is called while another one takes its place."""


@dataclass(frozen=True)
class Written:
    """The two specs as they stand in the directory."""

    initial: ArchitectureSpec
    final: ArchitectureSpec


@contextmanager
def run_directory(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A new directory beside ``target`` to write to, which becomes ``target`` at the end if nothing went wrong.

    ``replace`` allows a ``target`` that is empty or holds a run, a search or a spec; nothing else is ever replaced.
    Raises ``RunError`` (``directory-exists``, ``foreign-directory``, ``unwritable-run``) before anything is written.
    """
    target = target.absolute()
    _check(target, replace)
    staging = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir()
    try:
        yield staging
        with writing(target):
            _publish(staging, target, replace)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_run(directory: Path, run: Run, result: Result, recipe: Recipe | None = None) -> Written:
    """Write a finished run to ``directory``, with the recipe that it came from if there is one.

    Raises ``SpecError`` if a spec cannot be written.
    """
    # The log is there already, and a spec is not written over foreign files: hence by way of a directory of its own.
    final = _save(run.final, directory / "final")
    with writing(directory):
        for path in (directory / "final").iterdir():
            path.rename(directory / path.name)
        (directory / "final").rmdir()
        (directory / RESULT).write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if recipe is not None:
            (directory / RECIPE_FILE).write_text(recipe_text(recipe), encoding="utf-8")
    return Written(_save(run.initial, directory / INITIAL), final)


def read_result(directory: Path) -> Result:
    """The numbers of the run in ``directory``. Raises ``SpecError`` with code and path if they cannot be read."""
    return RUN_RESULT.read(read_text(directory / RESULT), RESULT)


def _save(network: Network, directory: Path) -> ArchitectureSpec:
    return save(network.graph_module, directory, network.spec)


def _check(target: Path, replace: bool) -> None:
    if not os.path.lexists(target):
        return
    if not replace:
        raise RunError("directory-exists", f"{target} exists already and is kept; choose another one or say --force")
    holds = {path.name for path in target.iterdir()} if target.is_dir() and not target.is_symlink() else {""}
    if holds and not holds & set(OURS):
        raise RunError(
            "foreign-directory",
            f"{target} is neither empty nor a run, so it is kept in spite of --force; choose another",
        )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Failures of the operating system while writing ``path`` become ``RunError`` (``unwritable-run``)."""
    try:
        yield
    except OSError as error:
        raise RunError("unwritable-run", f"{path} cannot be written ({error}); choose a place that can") from error


def recover(target: Path) -> None:
    """Bring ``target`` back if a process ended between the two renames by which it was to be replaced."""
    target = target.absolute()
    if os.path.lexists(target) or not target.parent.is_dir():
        return
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{32}}{re.escape(ASIDE)}")
    aside = next((path for path in target.parent.iterdir() if name.fullmatch(path.name)), None)
    if aside is not None:
        with writing(target):
            aside.rename(target)


def _publish(staging: Path, target: Path, replace: bool) -> None:
    """By renaming: the old run is moved aside first and comes back if the new one cannot take its place."""
    if not os.path.lexists(target):
        staging.rename(target)
        return
    _check(target, replace)  # it may have appeared meanwhile
    aside = staging.with_suffix(ASIDE)
    target.rename(aside)
    try:
        staging.rename(target)
    except OSError:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
