"""The directory that a run leaves behind: all of it or nothing.

::

    config.json  model.safetensors    the grown model, as ``fxgrow.load`` reads it
    initial/                          the model as it was before the run, in the same form
    recipe.yaml                       what the run was made of: ``fxgrow run`` repeats it
    result.json  log.jsonl            the run in numbers, and event by event
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fxgrow.documents import RUN_OUTPUT, ForeignCheck, atomic, atomic_directory, recognition
from fxgrow.spec import ArchitectureSpec, read_text, save
from fxgrow.training.recipe import Recipe, recipe_text
from fxgrow.training.result import RUN_RESULT_DOCUMENT, RunResult
from fxgrow.training.run import Network, Run

RECIPE_FILE = "recipe.yaml"
RESULT = "result.json"
LOG = "log.jsonl"
INITIAL = "initial"
SEARCHED = "search.json"
FOREIGN_TO_RUN = recognition.foreign_in_directory(recognition.ANY_DIRECTORY)


@dataclass(frozen=True)
class WrittenSpecs:
    """The two specs as they stand in the directory."""

    initial: ArchitectureSpec
    final: ArchitectureSpec


@contextmanager
def run_directory(
    target: Path,
    *,
    replace: bool = False,
    stranger: ForeignCheck = FOREIGN_TO_RUN,
    strangers_stay: bool = False,
) -> Iterator[Path]:
    """A new directory beside ``target`` to write to, which becomes ``target`` at the end if nothing went wrong.

    ``replace`` allows a ``target`` that is empty or holds nothing but what fxgrow writes (``stranger`` says what else);
    ``strangers_stay``: other files are moved to the new one. Raises ``RunError`` (``directory-exists``,
    ``foreign-directory``, ``unsafe-path``, ``unwritable-run``) before anything is written.
    """
    with atomic_directory(
        target, RUN_OUTPUT, stranger, force=replace, keep_foreign=strangers_stay
    ) as staging:
        yield staging


def write_run(
    directory: Path, run: Run, result: RunResult, recipe: Recipe | None = None
) -> WrittenSpecs:
    """Write a finished run to ``directory``, with the recipe that it came from if there is one.

    Raises ``SpecError`` if a spec cannot be written.
    """
    # The log is there already, and a spec is not written over foreign files: hence by way of a directory of its own.
    final = _save(run.final, directory / "final")
    with run_writing_errors(directory):
        for path in (directory / "final").iterdir():
            path.rename(directory / path.name)
        (directory / "final").rmdir()
        (directory / RESULT).write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if recipe is not None:
            (directory / RECIPE_FILE).write_text(recipe_text(recipe), encoding="utf-8")
    return WrittenSpecs(_save(run.initial, directory / INITIAL), final)


def read_result(directory: Path) -> RunResult:
    """The numbers of the run in ``directory``. Raises ``SpecError`` with code and path if they cannot be read."""
    return RUN_RESULT_DOCUMENT.read(read_text(directory / RESULT), RESULT)


def _save(network: Network, directory: Path) -> ArchitectureSpec:
    return save(network.graph_module, directory, network.spec)


@contextmanager
def run_writing_errors(path: Path) -> Iterator[None]:
    """Failures of the operating system while writing ``path`` become ``RunError`` (``unwritable-run``)."""
    with atomic.os_errors_as(path, RUN_OUTPUT):
        yield
