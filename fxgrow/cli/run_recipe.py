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
from fxgrow.cli.arguments import AsJson, DataRoot, Device, DumpGraphs, Force, Out, TrustModules
from fxgrow.cli.console import console, show, show_text
from fxgrow.cli.progress import drawing
from fxgrow.cli.references import read_reference
from fxgrow.cli.subject import Subject, lowered, subject_and_data
from fxgrow.cli.trust import TYPED, Trust, trusting
from fxgrow.errors import RunError
from fxgrow.growth import Growth
from fxgrow.placing import RUN, placed_directory, settled
from fxgrow.report import diff_tables, run_lines
from fxgrow.spec import diff
from fxgrow.spec.ours import GRAPHS, no_folder
from fxgrow.training import (
    Event,
    Listener,
    Log,
    Recipe,
    Run,
    read_recipe,
    result_of,
    run_directory,
    train_and_grow,
    write_run,
)
from fxgrow.training.directory import LOG, writing


@dataclass(frozen=True)
class Outlet:
    """Where a run goes: its directory (``force``: an earlier run there may go), graphs as text, what is printed."""

    directory: Path
    force: bool = False
    graphs: Path | None = None
    as_json: bool = False


def run_recipe_file(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="a YAML file", show_default=False)],
    out: Out,
    data_root: DataRoot = None,
    dump_graphs: DumpGraphs = None,
    trust: TrustModules = None,
    device: Device = "cpu",
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train and grow as RECIPE says, and leave a run directory: all of it or nothing.

    A recipe runs no code but ours and that of installed libraries, unless --trust names a module.
    """
    trusted = trusting(trust or ())
    read = read_recipe(recipe)
    if data_root is not None:
        read = read.model_copy(update={"data": read.data.model_copy(update={"root": data_root})})
    run_recipe(read, Outlet(out, force, dump_graphs, as_json), device=device, trust=trusted)


Announce = Callable[[Subject], None]


def _nothing(found: Subject) -> None:
    """Announce nothing."""


def run_recipe(
    recipe: Recipe, outlet: Outlet, announce: Announce = _nothing, device: str = "cpu", trust: Trust = TYPED
) -> None:
    """Carry out a recipe: train, grow, write the run directory and show the result.

    ``announce`` is told of the model before it is trained; ``device``: where it is; ``trust``: which modules the
    model may come from, any if the user wrote the recipe by the options of a command.
    """
    read_reference(recipe.model, trust)  # before anything is loaded or written
    place = arguments.device(device)
    # The graphs are the outer ones: whatever becomes of them, the run is in its place before.
    with _graphs_directory(outlet) as graphs, run_directory(outlet.directory, replace=outlet.force) as staging:
        run, label = _carried_out(recipe, Log(staging / LOG), announce, place, trust)
        result = result_of(run, recipe.settings, model=label, data=recipe.data.name)
        written = write_run(staging, run, result, recipe)
        _dump(run.growths, graphs)
    if outlet.as_json:
        show_text(result.model_dump_json(indent=2))
    else:
        lines = (*run_lines(result), Text(f"written to {outlet.directory}"))
        show(*diff_tables(diff(written.initial, written.final)), *lines)


def _carried_out(
    recipe: Recipe, log: Listener, announce: Announce, place: torch.device, trust: Trust
) -> tuple[Run, str]:
    """The finished run, and what its model is called."""
    found, splits = subject_and_data(recipe.model, recipe.data, seed=recipe.settings.seed, trust=trust)
    found = lowered(found) if recipe.lower else found
    announce(found)
    found, splits = found.to(place), splits.to(place)
    with drawing(console(stderr=True)) as draw:
        run = train_and_grow(
            found.model,
            splits,
            recipe.settings,
            example_inputs=found.example_inputs,
            method=recipe.method.settings,
            budget=recipe.budget,
            history=found.history,
            scope=recipe.scope,
            listen=_both(draw, log),
        )
    return run, found.label


def _both(first: Listener, second: Listener) -> Listener:
    def listen(event: Event) -> None:
        first(event)
        second(event)

    return listen


@contextmanager
def _graphs_directory(outlet: Outlet) -> Iterator[Path | None]:
    """Where to write the graphs, if they are asked for: a directory that is new or empty, or holds an earlier dump."""
    if outlet.graphs is None:
        yield None
        return
    place, run = settled(outlet.graphs, RUN), settled(outlet.directory, RUN)
    if os.path.lexists(place) and not place.is_dir():
        raise RunError("not-a-directory", f"--dump-graphs {outlet.graphs} is a file; name a directory")
    if place == run or place in run.parents or run in place.parents:
        raise RunError(
            "unsafe-path", f"--dump-graphs {outlet.graphs} and --out overlap, so one would replace the other; part them"
        )
    empty = place.is_dir() and not any(place.iterdir())
    with placed_directory(place, RUN, no_folder(GRAPHS), force=outlet.force or empty) as staging:
        yield staging


def _dump(growths: Sequence[Growth], directory: Path | None) -> None:
    if directory is None:
        return
    with writing(directory):
        for step, growth in enumerate(growths, start=1):
            for name, text in growth.graphs.items():
                (directory / f"step{step}.{name}.txt").write_text(text, encoding="utf-8")
