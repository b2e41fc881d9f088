"""Output of commands.

Tables and results go to the standard output, progress and errors to the standard error.
"""

import io
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from fxgrow.errors import FxgrowError, RecoveryWarning

# Columns of tables that go to a file or a pipe, where there is no screen to fit.
PIPE_WIDTH = 200


class _Console(Console):
    """A console that leaves it to the command what a closed pipe means; rich would exit."""

    def on_broken_pipe(self) -> None:
        """Called by rich while it handles the error, which goes on to the command."""
        raise  # noqa: PLE0704


def console(*, stderr: bool = False) -> Console:
    """A rich console on the standard output, or on the standard error."""
    # Looked up at every call: tests and callers may replace the streams.
    stream: TextIO = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return _Console(stderr=stderr, width=width, highlight=False)


@contextmanager
def any_character() -> Iterator[None]:
    """Print names of files that are no UTF-8, and what a terminal cannot show, as escapes.

    The standard error does so by itself.
    """
    out = sys.stdout
    if not isinstance(out, io.TextIOWrapper):
        yield
        return
    before = out.errors
    out.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        # To change it writes out what is buffered, and a pipe may have nobody who reads.
        with suppress(BrokenPipeError):
            if not out.closed:
                out.reconfigure(errors=before)


def print_parts(*parts: RenderableType) -> None:
    """Print renderables to the standard output."""
    out = console()
    for part in parts:
        out.print(part)


def print_line(line: Text) -> None:
    """Print a line as long as it is: the terminal breaks it, so that it can be copied whole."""
    console().print(line, soft_wrap=True)


def print_text(text: str) -> None:
    """Print text to the standard output as it is, for machines to read."""
    typer.echo(text)


def print_error(error: FxgrowError) -> None:
    """Print an error, and how to go on if that was noted, as one line to the standard error."""
    # Messages may quote other libraries, whose messages have several lines.
    sentence = " ".join("; ".join((str(error), *notes_of(error))).split())
    typer.echo(f"fxgrow: {sentence} [{error.code}]", err=True)


def notes_of(error: BaseException) -> list[str]:
    """What was noted on an error while it passed."""
    return getattr(error, "__notes__", [])


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print warnings of leftovers and damage as one line each; others as ever."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", RecoveryWarning)
        show = warnings.showwarning

        def one_line(message: Any, category: Any, *place: Any, **more: Any) -> None:
            if issubclass(category, RecoveryWarning):
                typer.echo(f"fxgrow: warning: {message}", err=True)
            else:
                show(message, category, *place, **more)

        warnings.showwarning = one_line
        yield
