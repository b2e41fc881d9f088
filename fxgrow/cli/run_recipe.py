"""``fxgrow run``: train and grow a model as a recipe says.

``fxgrow grow`` and ``fxgrow cells train`` make a recipe from their options and run it here.
"""

import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from fxgrow.argument_checks import shown
from fxgrow.cli import arguments
from fxgrow.cli.arguments import (
    AsJsonOption,
    DataRootOption,
    DeviceOption,
    DumpGraphsOption,
    ForceOption,
    LoggersOption,
    OutOption,
    SetOption,
    TrustModulesOption,
    find_named,
    require_used,
)
from fxgrow.cli.console import console, print_line, print_parts, print_text
from fxgrow.cli.model_and_data import ModelAndData, load_model_and_data, lower_model
from fxgrow.cli.processes import device_name, ending_in_peace, launcher, process_group
from fxgrow.cli.progress import progress_display
from fxgrow.cli.resolve import PYTHON, read_reference, split_reference
from fxgrow.cli.trust import Trust, trust_modules
from fxgrow.data import Splits
from fxgrow.documents import (
    GRAPH_DUMP_DIRECTORY,
    RUN_OUTPUT,
    atomic_directory,
    foreign_in_directory,
    resolve_target,
)
from fxgrow.errors import RunError
from fxgrow.ranks import Ranks
from fxgrow.report import read_story, run_sentence, run_table
from fxgrow.training import (
    LOG,
    LOGGERS,
    JsonlLog,
    Listener,
    LoggerEntry,
    LogPlace,
    Recipe,
    Run,
    RunNotes,
    RunResult,
    StepRecord,
    UnfinishedRun,
    changed_recipe,
    followed_run,
    new_run,
    read_recipe,
    resume_command,
    run_directory,
    run_result,
    run_writing_errors,
    train_and_grow,
    write_run,
)


@dataclass(frozen=True)
class OutputOptions:
    """Where the output of a run goes.

    Args:
        directory: the run directory to write.
        force: whether an earlier run, or an earlier dump of graphs, may be replaced.
        graphs: a directory for the fx graphs of every growth step; None: they are not written.
        as_json: print the result as JSON instead of tables.
        loggers: names of listeners that write what is measured, beside ``log.jsonl``.
    """

    directory: Path
    force: bool = False
    graphs: Path | None = None
    as_json: bool = False
    loggers: tuple[str, ...] = ()


def run_recipe_file(
    ctx: typer.Context,
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="a YAML file", show_default=False)
    ],
    out: OutOption,
    changes: SetOption = None,
    data_root: DataRootOption = None,
    dump_graphs: DumpGraphsOption = None,
    trust: TrustModulesOption = None,
    device: DeviceOption = "cpu",
    log: LoggersOption = None,
    force: ForceOption = False,
    as_json: AsJsonOption = False,
) -> None:
    """Train and grow a model as RECIPE says; write a complete run directory or none.

    A recipe runs no code but that of fxgrow and of installed libraries, unless --trust names a
    module; so does a field of it that --set names.
    """
    trusted = trust_modules(trust or ())
    content = changed_recipe(read_recipe(recipe), changes or ())
    steps = content.settings.grow_steps
    require_used(ctx, ("dump_graphs",), steps != 0, "a growth step in the recipe")
    if data_root is not None:
        data = content.data.model_copy(update={"root": data_root})
        content = content.model_copy(update={"data": data})
    output = OutputOptions(out, force, dump_graphs, as_json, tuple(log or ()))
    run_recipe(content, output, device=device, trust=trusted)


ModelListener = Callable[[ModelAndData], None]


def _announce_nothing(loaded: ModelAndData) -> None:
    """Ignore the model."""


def run_recipe(
    recipe: Recipe,
    output: OutputOptions,
    announce: ModelListener = _announce_nothing,
    device: str = "cpu",
    *,
    trust: Trust,
) -> None:
    """Carry out a recipe: train, grow, write the run directory and print the result.

    Args:
        recipe: what to do.
        output: where the results go.
        announce: called with the model before it is trained.
        device: the name of the device to compute on.
        trust: which modules the model may come from: any (``TRUST_TYPED``) for recipes that were
            made from options that the user typed, those of ``--trust`` for recipes from files.

    Raises:
        FxgrowError: of the class that fits; neither the run directory nor the graphs are written.
    """
    # All checks come first, before anything is loaded or written.
    read_reference(recipe.model, trust)
    own_device = device_name(device)
    torch_device = arguments.resolve_device(own_device)
    loggers = _find_loggers(output.loggers)
    go_on = _how_to_go_on(output, recipe.model)
    with process_group(own_device) as is_first:
        if not is_first:
            with followed_run(output.directory, go_on=go_on) as followed:
                Ranks.of_process().decided(decision=True)
                _train_along(followed, recipe, torch_device, trust)
            return
        # The graphs are outside: if moving them into place fails, the run is already there.
        with (
            _graphs_directory(output) as graphs,
            new_run(output.directory, force=output.force, go_on=go_on) as unfinished,
        ):
            unfinished.begin(recipe, _notes(output, device))
            Ranks.of_process().decided(decision=True)  # now the others may look there
            done = _train(unfinished, recipe, announce, torch_device, trust, loggers)
            _publish(unfinished, done, recipe, output.force, graphs)
    print_result(done.result, output)


def _how_to_go_on(output: OutputOptions, model: str) -> str:
    """The command that resumes a run; it reads files, so it must say what they may ask for."""
    words = [launcher() + resume_command(output.directory)]
    scheme, rest = split_reference(model)
    if scheme == PYTHON:
        words.append(f"--trust {rest.partition(':')[0]}")
    if output.graphs is not None:
        words.append(f"--dump-graphs {shlex.quote(str(output.graphs))}")
    return " ".join(words)


def _notes(output: OutputOptions, device: str) -> RunNotes:
    """What a run needs to know beside its recipe when it is resumed."""
    graphs = None if output.graphs is None else str(output.graphs.absolute())
    return RunNotes(
        schema_version=1,
        force=output.force,
        device=device,
        threads=torch.get_num_threads(),
        graphs=graphs,
        loggers=output.loggers,
    )


def _find_loggers(names: Sequence[str]) -> dict[str, LoggerEntry]:
    """The loggers of these names, whose packages are there."""
    found = {}
    for name in names:
        found[name] = find_named("log", name, LOGGERS)
        found[name].make(LogPlace(Path(), name))  # nothing is written before the first event
    return found


def continue_run(unfinished: UnfinishedRun, output: OutputOptions, trust: Trust) -> None:
    """Carry out what is left of a recipe, and publish and print as ``run_recipe`` does.

    Args:
        unfinished: a run that was stopped, which nobody else works on.
        output: where the run goes, and its graphs.
        trust: which modules the model may come from.

    Raises:
        FxgrowError: of the class that fits; what was trained is kept.
    """
    recipe, notes = unfinished.recipe(), unfinished.notes()
    read_reference(recipe.model, trust)
    _require_named(notes.graphs, output.graphs)
    device = arguments.resolve_device(device_name(notes.device))
    loggers = _find_loggers(notes.loggers)
    torch.set_num_threads(notes.threads)  # sums are split among threads, and round accordingly
    output = replace(output, force=notes.force)
    with _graphs_directory(output) as graphs:
        done = _train(unfinished, recipe, _announce_nothing, device, trust, loggers)
        _publish(unfinished, done, recipe, notes.force, graphs)
    print_result(done.result, output)


def continue_along(followed: UnfinishedRun, trust: Trust) -> None:
    """Take part in what another process does by ``continue_run``."""
    notes = followed.notes()
    device = arguments.resolve_device(device_name(notes.device))
    torch.set_num_threads(notes.threads)
    _train_along(followed, followed.recipe(), device, trust)


def _require_named(graphs: str | None, named: Path | None) -> None:
    """Check that nothing is written to a place outside the run that only a file names."""
    if graphs is not None and named is None:
        raise RunError(
            "unnamed-output",
            f"the run is to write its graphs to {shown(graphs)}, and a file says so, so nothing is "
            "written there; name that directory, or another one, with --dump-graphs",
        )


@dataclass(frozen=True, eq=False)
class _Done:
    """A run that is trained to its end, and its numbers."""

    run: Run
    result: RunResult


def _train(
    unfinished: UnfinishedRun,
    recipe: Recipe,
    announce: ModelListener,
    device: torch.device,
    trust: Trust,
    loggers: Mapping[str, LoggerEntry],
) -> _Done:
    """Train to the end; from the last checkpoint on, if there is one."""
    loaded, splits = _loaded(recipe, trust)
    announce(loaded)
    place = LogPlace(unfinished.path, unfinished.target.name)
    others = [one.make(place) for one in loggers.values()]
    with progress_display(console(stderr=True)) as draw, run_writing_errors(unfinished.target):
        listeners = (draw, JsonlLog(unfinished.log), *others)
        run = _trained(unfinished, recipe, loaded.to(device), splits.to(device), listeners)
    return _Done(run, run_result(run, recipe.settings, model=loaded.label, data=recipe.data.name))


def _train_along(
    followed: UnfinishedRun, recipe: Recipe, device: torch.device, trust: Trust
) -> None:
    """Take part in the training of another process, which alone keeps and tells of anything."""
    loaded, splits = _loaded(recipe, trust)
    _trained(followed, recipe, loaded.to(device), splits.to(device), ())


def _loaded(recipe: Recipe, trust: Trust) -> tuple[ModelAndData, Splits]:
    loaded, splits = load_model_and_data(
        recipe.model, recipe.data, seed=recipe.settings.seed, trust=trust
    )
    return lower_model(loaded) if recipe.lower else loaded, splits


def _trained(
    unfinished: UnfinishedRun,
    recipe: Recipe,
    loaded: ModelAndData,
    splits: Splits,
    listeners: Sequence[Listener],
) -> Run:
    with ending_in_peace():
        return train_and_grow(
            loaded.model,
            splits,
            recipe.settings,
            example_inputs=loaded.example_inputs,
            method=recipe.method.settings,
            budget=recipe.budget,
            history=loaded.history,
            scope=recipe.scope,
            listeners=listeners,
            checkpoints=unfinished.checkpoints,
        )


def _publish(
    unfinished: UnfinishedRun, done: _Done, recipe: Recipe, force: bool, graphs: Path | None
) -> None:
    """Write the finished run, which takes its place in one piece."""
    with run_directory(unfinished.target, replace=force) as staging:
        with run_writing_errors(unfinished.target):
            _copy_logs(unfinished, staging)
        write_run(staging, done.run, done.result, recipe)
        _write_graphs(done.run.records, graphs)


def _copy_logs(unfinished: UnfinishedRun, directory: Path) -> None:
    """Copy the log, and whatever else listeners have written."""
    shutil.copyfile(unfinished.log, directory / LOG)
    # A name that was given twice writes once.
    for name in dict.fromkeys(unfinished.notes().loggers):
        output = LOGGERS[name].output
        if output is not None:
            copy = shutil.copytree if (unfinished.path / output).is_dir() else shutil.copyfile
            copy(unfinished.path / output, directory / output)


def print_result(result: RunResult, output: OutputOptions) -> None:
    """Print a run that is written; nothing is lost if nobody reads that."""
    try:
        _print_result(result, output)
    except BrokenPipeError as error:
        error.add_note(f"the run is complete in {output.directory}")
        raise


def _print_result(result: RunResult, output: OutputOptions) -> None:
    if output.as_json:
        print_text(result.model_dump_json(indent=2))
        return
    # From what was written, as ``fxgrow report`` tells it at any time.
    story = read_story(output.directory)
    directory = shlex.quote(str(output.directory))
    command = f"fxgrow report {directory} --html report.html"
    print_parts(run_table(story))
    print_line(run_sentence(story, f"written to {directory}; next: {command}"))


@contextmanager
def _graphs_directory(output: OutputOptions) -> Iterator[Path | None]:
    """A staging directory for the graphs, if they are to be written.

    The target is new or empty, or it holds an earlier dump and ``force`` is set.
    """
    if output.graphs is None:
        yield None
        return
    target = resolve_target(output.graphs, RUN_OUTPUT)
    run = resolve_target(output.directory, RUN_OUTPUT)
    if os.path.lexists(target) and not target.is_dir():
        raise RunError(
            "not-a-directory", f"--dump-graphs {output.graphs} is a file; name a directory"
        )
    if target == run or target in run.parents or run in target.parents:
        raise RunError(
            "unsafe-path",
            f"--dump-graphs {output.graphs} and --out overlap, so one would replace the other; "
            "name two separate directories",
        )
    is_empty = target.is_dir() and not any(target.iterdir())
    is_foreign = foreign_in_directory(GRAPH_DUMP_DIRECTORY)
    # An empty directory holds nothing that could be lost, so it is replaced without --force.
    with atomic_directory(
        target, RUN_OUTPUT, is_foreign, force=output.force or is_empty
    ) as staging:
        yield staging


def _write_graphs(records: Sequence[StepRecord], directory: Path | None) -> None:
    if directory is None:
        return
    with run_writing_errors(directory):
        for step, record in enumerate(records, start=1):
            for name, text in record.graphs.items():
                (directory / f"step{step}.{name}.txt").write_text(text, encoding="utf-8")
