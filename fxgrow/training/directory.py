"""The directory that a run writes: all of it or nothing.

::

    config.json  model.safetensors    the grown model, as ``fxgrow.load`` reads it
    initial/                          the model as it was before the run, in the same form
    recipe.yaml                       what the run was made of: ``fxgrow run`` repeats it
    result.json  log.jsonl            the run in numbers, and event by event
    metrics.csv  tensorboard/         what was asked for beside the log (``--log``)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fxgrow.argument_checks import checked
from fxgrow.documents import RUN_OUTPUT, ForeignCheck, atomic, atomic_directory, recognition
from fxgrow.spec import ArchitectureSpec, read_text, save
from fxgrow.training.network import Network
from fxgrow.training.recipe import Recipe, recipe_text
from fxgrow.training.result import RUN_RESULT_DOCUMENT, RunResult
from fxgrow.training.run import Run

# The names of files that other commands look for, too.
RECIPE_FILE = "recipe.yaml"
RESULT = "result.json"
LOG = "log.jsonl"
INITIAL = "initial"
SEARCHED = "search.json"


@checked
def foreign_to_run(path: Path) -> str | None:
    """Find what keeps a directory from being replaced by a run: whatever fxgrow has not written.

    Args:
        path: an existing path.

    Returns:
        The reason, in words that follow "because", or None if the directory may be replaced.

    Example:
        >>> FOREIGN_TO_RUN(Path("thesis"))
        "it holds 'thesis.txt', which fxgrow did not write"
    """
    # A directory of any command will do: a run may take the place of a search or of a master.
    with run_writing_errors(path):
        return _foreign_to_any_command(path)


_foreign_to_any_command = recognition.foreign_in_directory(recognition.ANY_DIRECTORY)
FOREIGN_TO_RUN: ForeignCheck = foreign_to_run


@dataclass(frozen=True)
class WrittenSpecs:
    """The two specs as they were written to the directory of a run.

    Args:
        initial: the architecture before the run.
        final: the architecture at the end.

    Example:
        >>> written = write_run(directory, run, result)
        >>> fxgrow.diff(written.initial, written.final)
    """

    initial: ArchitectureSpec
    final: ArchitectureSpec


@checked
@contextmanager
def run_directory(
    target: Path,
    *,
    replace: bool = False,
    stranger: ForeignCheck = FOREIGN_TO_RUN,
    strangers_stay: bool = False,
) -> Iterator[Path]:
    """Make a new directory beside ``target``, which becomes ``target`` if the block succeeds.

    Args:
        target: the directory of the run.
        replace: allow a ``target`` that exists, if it is empty or fxgrow has written all of it.
        stranger: finds what fxgrow has not written; by default among the files of all commands.
        strangers_stay: move foreign files to the new directory, instead of refusing them.

    Returns:
        A context manager that gives the new directory to write to.

    Raises:
        RunError: ``target`` exists (``directory-exists``), holds foreign files
            (``foreign-directory``), is a place that must not be replaced (``unsafe-path``), or
            cannot be written (``unwritable-run``). Nothing has been written then.

    Example:
        >>> with run_directory(Path("runs/first")) as staging:
        ...     write_run(staging, run, result)
    """
    # ``target`` is replaced by renames at the end: nobody finds it half written.
    with atomic_directory(
        target, RUN_OUTPUT, stranger, force=replace, keep_foreign=strangers_stay
    ) as staging:
        yield staging


@checked
def write_run(
    directory: Path, run: Run, result: RunResult, recipe: Recipe | None = None
) -> WrittenSpecs:
    """Write a finished run to a directory, beside the log that may be there already.

    Args:
        directory: an existing directory, as ``run_directory`` gives it.
        run: the finished run.
        result: its numbers.
        recipe: what the run was made of, if there is a recipe.

    Returns:
        The specs of the model before and after the run, as they were written.

    Raises:
        SpecError: a spec cannot be written.
        RunError: the operating system refuses to write (``unwritable-run``).

    Example:
        >>> with run_directory(Path("runs/first")) as staging:
        ...     write_run(staging, run, run_result(run, settings, model="net", data="digits"))
    """
    # A spec is never saved to a directory with foreign files in it, and the log is one: hence a
    # directory of its own, whose files are moved up afterwards.
    final = _save(run.final, directory / "final")
    with run_writing_errors(directory):
        # Both lie in the same file system, so a rename moves no bytes.
        for path in (directory / "final").iterdir():
            path.rename(directory / path.name)
        (directory / "final").rmdir()
        (directory / RESULT).write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if recipe is not None:
            (directory / RECIPE_FILE).write_text(recipe_text(recipe), encoding="utf-8")
    initial = _save(run.initial, directory / INITIAL)
    return WrittenSpecs(initial, final)


@checked
def read_result(directory: Path) -> RunResult:
    """Read the numbers of a run, of the present version or an older one.

    Args:
        directory: the directory of the run.

    Returns:
        The numbers.

    Raises:
        SpecError: they cannot be read; with the JSON path of what is wrong.

    Example:
        >>> read_result(Path("runs/first")).test_accuracy_after
        0.92
    """
    return RUN_RESULT_DOCUMENT.read(read_text(directory / RESULT), RESULT)


def _save(network: Network, directory: Path) -> ArchitectureSpec:
    return save(network.graph_module, directory, network.spec)


@checked
@contextmanager
def run_writing_errors(path: Path) -> Iterator[None]:
    """Turn failures of the operating system inside the block into errors for the user.

    Args:
        path: what is being written; the message names it.

    Returns:
        A context manager.

    Raises:
        RunError: the operating system refused to write (``unwritable-run``).

    Example:
        >>> with run_writing_errors(directory):
        ...     (directory / "notes.txt").write_text(text)
    """
    with atomic.os_errors_as(path, RUN_OUTPUT):
        yield
