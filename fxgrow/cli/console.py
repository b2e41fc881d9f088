"""Where words go: tables and results to the standard output, progress and errors to the standard error."""

import sys
from typing import TextIO

import typer
from rich.console import Console, RenderableType

from fxgrow.errors import FxgrowError

# Of tables that go to a file or a pipe, where there is no screen to fit.
PIPE_WIDTH = 200


def console(*, stderr: bool = False) -> Console:
    """A rich console on a standard stream as it is now."""
    stream: TextIO = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else PIPE_WIDTH, highlight=False)


def print_parts(*parts: RenderableType) -> None:
    """Print renderables to the standard output."""
    out = console()
    for part in parts:
        out.print(part)


def print_text(text: str) -> None:
    """Print text to the standard output as it is, for machines to read."""
    typer.echo(text)


def print_error(error: FxgrowError) -> None:
    """Print an error as one line to the standard error."""
    typer.echo(f"fxgrow: {' '.join(str(error).split())} [{error.code}]", err=True)
