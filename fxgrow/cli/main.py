"""The ``fxgrow`` program: its commands, one file per command in this package."""

from typing import Annotated

import typer

from fxgrow.cli.commands import ErrorHandlingGroup
from fxgrow.cli.lazy_group import CommandRow
from fxgrow.version import __version__


class FxgrowGroup(ErrorHandlingGroup):
    """All commands, in the order in which the help lists them."""

    table = (
        CommandRow(
            "inspect",
            "fxgrow.cli.inspect_model:inspect_model",
            "List the widths of a model: name, size, granule, sites, growable or the reason why "
            "not.",
        ),
        CommandRow(
            "grow",
            "fxgrow.cli.grow_model:grow_model",
            "Train MODEL, grow it between the epochs, and write a complete run directory or none.",
        ),
        CommandRow(
            "deepen",
            "fxgrow.cli.deepen_model:deepen_model",
            "Write MODEL with more blocks of its own kind, which start as the identity.",
        ),
        CommandRow(
            "expand",
            "fxgrow.cli.expand_model:expand_model",
            "Write the model --to with parameters that make it compute what MODEL does.",
        ),
        CommandRow(
            "extend",
            "fxgrow.cli.extend_model:extend_model",
            "Write MODEL with more words, classes or experts; what it gave before stays.",
        ),
        CommandRow(
            "run",
            "fxgrow.cli.run_recipe:run_recipe_file",
            "Train and grow a model as RECIPE says; write a complete run directory or none.",
        ),
        CommandRow(
            "resume",
            "fxgrow.cli.resume_run:resume_run",
            "Go on with the run to DIR that was stopped, from its last checkpoint.",
        ),
        CommandRow(
            "report",
            "fxgrow.cli.report_run:report_run",
            "Show how the run in DIR went: sizes, losses, accuracy, what growth was worth.",
        ),
        CommandRow(
            "diff",
            "fxgrow.cli.diff_directories:diff_directories",
            "Show what changed from A to B: widths, layers, nodes, modules, parameters, "
            "multiply-adds.",
        ),
        CommandRow(
            "log",
            "fxgrow.cli.show_log:show_log",
            "List the growth steps of a saved model, with the fingerprint of the architecture at "
            "each.",
        ),
        CommandRow(
            "replay",
            "fxgrow.cli.replay_history:replay_history",
            "Rebuild the architecture in DIR from its first one and its history; compare "
            "fingerprints.",
        ),
        CommandRow(
            "check",
            "fxgrow.cli.check_path:check_path",
            "Read PATH and describe what it holds; anything wrong is an error.",
        ),
        CommandRow(
            "export",
            "fxgrow.cli.export_model:export_model",
            "Write a saved model in another format, and check that it computes the same.",
        ),
        CommandRow(
            "methods",
            "fxgrow.cli.list_methods:list_methods",
            "List the growth methods: cost, whether they keep the function, reference.",
        ),
        CommandRow(
            "schema",
            "fxgrow.cli.print_schema:print_schema",
            "Print the JSON Schema of a kind of document; or write it, or all of them, to a "
            "directory.",
        ),
        CommandRow(
            "cells",
            "fxgrow.cli.cells.app:cells_app",
            "Networks that are made of repeated cells.",
        ),
        CommandRow(
            "continual",
            "fxgrow.cli.continual.app:continual_app",
            "A master network that learns task after task and never forgets.",
        ),
    )


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fxgrow {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=FxgrowGroup,
    no_args_is_help=True,
    add_completion=False,
    # A bug shows Python's own traceback, which can be copied into a report.
    pretty_exceptions_enable=False,
)


@app.callback()
def fxgrow(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Grow neural networks while keeping their function."""
