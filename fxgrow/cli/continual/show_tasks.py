"""``fxgrow continual show``: show the result of a run over tasks as tables or as a picture."""

from pathlib import Path
from typing import Annotated

import typer

from fxgrow.cli.arguments import AsJsonOption, ForceFile, require_used
from fxgrow.cli.console import print_parts, print_text
from fxgrow.continual import ContinualResult, read_continual
from fxgrow.report import continual_lines, continual_tables, draw_continual


def show_tasks(
    ctx: typer.Context,
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="the directory of a run over tasks", show_default=False),
    ],
    png: Annotated[
        Path | None,
        typer.Option("--png", metavar="FILE", help="also draw the result", show_default=False),
    ] = None,
    force: ForceFile = False,
    as_json: AsJsonOption = False,
) -> None:
    """Show the accuracies, parameters and neurons of every task in DIR."""
    require_used(ctx, ("force",), png is not None, "--png")
    result = read_continual(directory)
    if png is not None:
        draw_continual(result, png, force=force)
    show_result(result, as_json=as_json)


def show_result(result: ContinualResult, *, as_json: bool) -> None:
    """Print a result as tables, or as JSON."""
    if as_json:
        print_text(result.model_dump_json(indent=1))
    else:
        print_parts(*continual_tables(result), *continual_lines(result))
