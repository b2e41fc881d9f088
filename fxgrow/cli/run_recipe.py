"""``fxgrow run``: train and grow as a recipe says. ``fxgrow grow`` makes a recipe of its options and runs it here."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.text import Text

from fxgrow.cli import arguments
from fxgrow.cli.arguments import (
    AsJsonOption,
    DataRootOption,
    DeviceOption,
    DumpGraphsOption,
    ForceOption,
    OutOption,
    TrustModulesOption,
)
from fxgrow.cli.console import console, print_parts, print_text
from fxgrow.cli.model_and_data import ModelAndData, load_model_and_data, lower_model
from fxgrow.cli.progress import progress_display
from fxgrow.cli.resolve import read_reference
from fxgrow.cli.trust import TRUST_TYPED, Trust, trust_modules
from fxgrow.documents import (
    GRAPH_DUMP_DIRECTORY,
    RUN_OUTPUT,
    atomic_directory,
    foreign_in_directory,
    resolve_target,
)
from fxgrow.errors import RunError
from fxgrow.growth import Growth
from fxgrow.report import diff_tables, run_lines
from fxgrow.spec import diff
from fxgrow.training import (
    LOG,
    Event,
    Listener,
    Log,
    Recipe,
    Run,
    read_recipe,
    run_directory,
    run_result,
    run_writing_errors,
    train_and_grow,
    write_run,
)


@dataclass(frozen=True)
class OutputOptions:
    """Where a run goes: its directory (``force``: an earlier run there may go), graphs as text, what is printed."""

    directory: Path
    force: bool = False
    graphs: Path | None = None
    as_json: bool = False


def run_recipe_file(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="a YAML file", show_default=False)
    ],
    out: OutOption,
    data_root: DataRootOption = None,
    dump_graphs: DumpGraphsOption = None,
    trust: TrustModulesOption = None,
    device: DeviceOption = "cpu",
    force: ForceOption = False,
    as_json: AsJsonOption = False,
) -> None:
    """Train and grow as RECIPE says, and leave a run directory: all of it or nothing.

    A recipe runs no code but ours and that of installed libraries, unless --trust names a module.
    """
    trusted = trust_modules(trust or ())
    read = read_recipe(recipe)
    if data_root is not None:
        read = read.model_copy(update={"data": read.data.model_copy(update={"root": data_root})})
    run_recipe(read, OutputOptions(out, force, dump_graphs, as_json), device=device, trust=trusted)


ModelListener = Callable[[ModelAndData], None]


def _nothing(found: ModelAndData) -> None:
    """Announce nothing."""


def run_recipe(
    recipe: Recipe,
    outlet: OutputOptions,
    announce: ModelListener = _nothing,
    device: str = "cpu",
    trust: Trust = TRUST_TYPED,
) -> None:
    """Carry out a recipe: train, grow, write the run directory and show the result.

    ``announce`` is told of the model before it is trained; ``device``: where it is; ``trust``: which modules the
    model may come from, any if the user wrote the recipe by the options of a command.
    """
    read_reference(recipe.model, trust)  # before anything is loaded or written
    place = arguments.resolve_device(device)
    # The graphs are the outer ones: whatever becomes of them, the run is in its place before.
    with (
        _graphs_directory(outlet) as graphs,
        run_directory(outlet.directory, replace=outlet.force) as staging,
    ):
        run, label = _carried_out(recipe, Log(staging / LOG), announce, place, trust)
        result = run_result(run, recipe.settings, model=label, data=recipe.data.name)
        written = write_run(staging, run, result, recipe)
        _dump(run.growths, graphs)
    if outlet.as_json:
        print_text(result.model_dump_json(indent=2))
    else:
        lines = (*run_lines(result), Text(f"written to {outlet.directory}"))
        print_parts(*diff_tables(diff(written.initial, written.final)), *lines)


def _carried_out(
    recipe: Recipe, log: Listener, announce: ModelListener, place: torch.device, trust: Trust
) -> tuple[Run, str]:
    """The finished run, and what its model is called."""
    found, splits = load_model_and_data(
        recipe.model, recipe.data, seed=recipe.settings.seed, trust=trust
    )
    found = lower_model(found) if recipe.lower else found
    announce(found)
    found, splits = found.to(place), splits.to(place)
    with progress_display(console(stderr=True)) as draw:
        run = train_and_grow(
            found.model,
            splits,
            recipe.settings,
            example_inputs=found.example_inputs,
            method=recipe.method.settings,
            budget=recipe.budget,
            history=found.history,
            scope=recipe.scope,
            callback=_both(draw, log),
        )
    return run, found.label


def _both(first: Listener, second: Listener) -> Listener:
    def callback(event: Event) -> None:
        first(event)
        second(event)

    return callback


@contextmanager
def _graphs_directory(outlet: OutputOptions) -> Iterator[Path | None]:
    """Where to write the graphs, if they are asked for: a directory that is new or empty, or holds an earlier dump."""
    if outlet.graphs is None:
        yield None
        return
    place, run = (
        resolve_target(outlet.graphs, RUN_OUTPUT),
        resolve_target(outlet.directory, RUN_OUTPUT),
    )
    if os.path.lexists(place) and not place.is_dir():
        raise RunError(
            "not-a-directory", f"--dump-graphs {outlet.graphs} is a file; name a directory"
        )
    if place == run or place in run.parents or run in place.parents:
        raise RunError(
            "unsafe-path",
            f"--dump-graphs {outlet.graphs} and --out overlap, so one would replace the other; part them",
        )
    empty = place.is_dir() and not any(place.iterdir())
    with atomic_directory(
        place, RUN_OUTPUT, foreign_in_directory(GRAPH_DUMP_DIRECTORY), force=outlet.force or empty
    ) as staging:
        yield staging


def _dump(growths: Sequence[Growth], directory: Path | None) -> None:
    if directory is None:
        return
    with run_writing_errors(directory):
        for step, growth in enumerate(growths, start=1):
            for name, text in growth.graphs.items():
                (directory / f"step{step}.{name}.txt").write_text(text, encoding="utf-8")
