"""``fxgrow grow``: train a model and grow it on the way."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fxgrow.cli.arguments import AsJson, Lower, ModelWords, budget, settings
from fxgrow.cli.console import console, show, show_text
from fxgrow.cli.progress import drawing
from fxgrow.cli.subject import DataWords, lowered, subject_and_data
from fxgrow.data import SOURCES
from fxgrow.errors import RunError
from fxgrow.growth import Growth
from fxgrow.methods import Firefly
from fxgrow.report import diff_tables, run_lines
from fxgrow.spec import diff
from fxgrow.training import Event, Listener, Log, RunSettings, result_of, run_directory, train_and_grow, write_run
from fxgrow.training.directory import LOG

LAYER_NEURONS = 8
"""Candidates for the hidden neurons of each residual layer."""

DEFAULTS = RunSettings()


def grow_model(
    model: ModelWords,
    out: Annotated[Path, typer.Option(metavar="DIR", help="the run directory to write", show_default=False)],
    data: Annotated[str, typer.Option(metavar="NAME", help=", ".join(SOURCES))] = "digits",
    data_root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="where the files of cifar or imagefolder lie", show_default=False)
    ] = None,
    epochs: Annotated[int, typer.Option(help="epochs of training in all")] = DEFAULTS.epochs,
    grow_steps: Annotated[
        int, typer.Option(help="growth steps between them, at equal distances")
    ] = DEFAULTS.grow_steps,
    neurons: Annotated[
        str | None,
        typer.Option(
            help="neurons that a growth step may add: a count (64) or a fraction (0.3)",
            show_default="0.3 if nothing else is limited",
        ),
    ] = None,
    parameters: Annotated[str | None, typer.Option(help="parameters that it may add")] = None,
    multiply_adds: Annotated[str | None, typer.Option(help="multiply-adds per image that it may add")] = None,
    activation_memory: Annotated[
        str | None, typer.Option(help="bytes per image kept for the backward pass that it may add")
    ] = None,
    latency: Annotated[
        str | None,
        typer.Option(help="time per image that it may add, measured: microseconds or a fraction"),
    ] = None,
    per_width: Annotated[str | None, typer.Option(help="neurons that it may add to every single width")] = None,
    round_to: Annotated[int, typer.Option(help="every width that grows ends at a multiple of it")] = 1,
    seed: Annotated[int, typer.Option(help="of the weights, the order of images and the candidates")] = DEFAULTS.seed,
    lr: Annotated[float, typer.Option(help="learning rate at the start; it falls to 0")] = DEFAULTS.lr,
    batch_size: Annotated[int, typer.Option(help="images per step of training")] = DEFAULTS.batch_size,
    new: Annotated[
        int | None, typer.Option(help="candidates for new neurons per width", show_default="the method's")
    ] = None,
    layers: Annotated[
        int, typer.Option(help="residual layers that a growth step may insert, where they lower the loss most")
    ] = 0,
    at: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="where layers may go: modules or nodes (layer*.relu)", show_default="all"),
    ] = None,
    eps: Annotated[
        float | None, typer.Option(help="radius of the neighbourhood searched", show_default="the method's")
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(
            help="bytes that a step over the candidates may keep (2e9); more are searched in groups of widths"
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="use that many training images", show_default="all")] = None,
    classes: Annotated[int | None, typer.Option(help="classes of shapes: 10, 20, 100", show_default="10")] = None,
    size: Annotated[int | None, typer.Option(help="side of the images", show_default="the model's or 32")] = None,
    dump_graphs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write the fx graphs of every step as text", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace an earlier run in --out")] = False,
    lower: Lower = False,
    as_json: AsJson = False,
) -> None:
    """Train MODEL on data, grow it between the epochs, and leave a run directory: all of it or nothing."""
    schedule = {"epochs": epochs, "grow_steps": grow_steps, "lr": lr, "batch_size": batch_size, "seed": seed}
    plan = settings(RunSettings, **schedule, memory=memory)
    depth = {"layers": LAYER_NEURONS, "at": tuple(at or ())} if layers else {}
    method = settings(Firefly, new=new, eps=eps, **depth)
    money = budget(
        round_to,
        layers,
        neurons=neurons,
        parameters=parameters,
        multiply_adds=multiply_adds,
        activation_memory=activation_memory,
        latency=latency,
        per_width=per_width,
    )
    _check_dump(dump_graphs)
    with run_directory(out, replace=force) as staging:
        words = DataWords(data, data_root, seed, limit, classes, size)
        found, splits = subject_and_data(model, words, seed=plan.seed)
        found = lowered(found) if lower else found
        with drawing(console(stderr=True)) as draw:
            run = train_and_grow(
                found.model,
                splits,
                plan,
                example_inputs=found.example_inputs,
                method=method,
                budget=money,
                history=found.history,
                listen=_both(draw, Log(staging / LOG)),
            )
        result = result_of(run, plan, model=found.label, data=data)
        written = write_run(staging, run, result)
        _dump(run.growths, dump_graphs)
    if as_json:
        show_text(result.model_dump_json(indent=2))
    else:
        lines = (*run_lines(result), Text(f"written to {out}"))
        show(*diff_tables(diff(written.initial, written.final)), *lines)


def _both(first: Listener, second: Listener) -> Listener:
    def listen(event: Event) -> None:
        first(event)
        second(event)

    return listen


def _check_dump(directory: Path | None) -> None:
    if directory is not None and directory.exists() and not directory.is_dir():
        raise RunError("not-a-directory", f"--dump-graphs {directory} is a file; name a directory")


def _dump(growths: Sequence[Growth], directory: Path | None) -> None:
    if directory is None:
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for step, growth in enumerate(growths, start=1):
            for name, text in growth.graphs.items():
                (directory / f"step{step}.{name}.txt").write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError("unwritable-run", f"{directory} cannot be written ({error}); choose another") from error
