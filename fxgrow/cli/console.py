"""Output of commands.

Tables and results go to the standard output, progress and errors to the standard error.
"""

import sys
from typing import TextIO

import typer
from rich.console import Console, RenderableType

from fxgrow.errors import FxgrowError

# Columns of tables that go to a file or a pipe, where there is no screen to fit.
PIPE_WIDTH = 200


def console(*, stderr: bool = False) -> Console:
    """A rich console on the standard output, or on the standard error."""
    # Looked up at every call: tests and callers may replace the streams.
    stream: TextIO = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False)


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
    # Messages may quote other libraries, whose messages have several lines.
    sentence = " ".join(str(error).split())
    typer.echo(f"fxgrow: {sentence} [{error.code}]", err=True)
