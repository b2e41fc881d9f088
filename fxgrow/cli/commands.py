"""How all commands end.

The exit code is 0 if the command did its work, 1 for a bug (with its traceback), 2 for wrong input
(one sentence), 130 or 143 if it was interrupted or terminated, 141 if nobody reads its output.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import typer

from fxgrow.cli.console import any_character, notes_of, plain_warnings, print_error
from fxgrow.cli.lazy_group import LazyGroup
from fxgrow.cli.processes import ending_in_peace, tells
from fxgrow.errors import FxgrowError

WRONG_INPUT = 2
# 128 + the number of the signal, as shells report it.
INTERRUPTED, TERMINATED, PIPE_CLOSED = 130, 143, 141
# Newer versions of typer have a copy of click of their own.
_UsageError: Any = typer.BadParameter.__mro__[1]


class Terminated(KeyboardInterrupt):
    """The process was told to end (SIGTERM), as batch systems do before they kill."""


class ErrorHandlingGroup(LazyGroup):
    """A group of commands that turns user errors into one sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; all other exceptions are bugs and pass through with their traceback."""
        try:
            with _termination_raises(), plain_warnings(), any_character():
                return super().invoke(ctx)
        except _UsageError as error:
            # Typer itself prints it, in each of several processes.
            if not tells(error):
                raise typer.Exit(WRONG_INPUT) from error
            raise
        except FxgrowError as error:
            if tells(error):
                print_error(error)
            raise typer.Exit(WRONG_INPUT) from error
        except KeyboardInterrupt as error:
            is_terminated = isinstance(error, Terminated)
            word = "terminated" if is_terminated else "interrupted"
            if tells(error):
                _say(f"{word}; {_what_is_left(error, 'nothing was written')}")
            raise typer.Exit(TERMINATED if is_terminated else INTERRUPTED) from error
        except BrokenPipeError as error:
            # Of ``| head``, say: no failure of ours, and nothing to be loud about.
            _discard_output()
            _say(f"nobody reads the output any more; {_what_is_left(error, 'it was cut short')}")
            raise typer.Exit(PIPE_CLOSED) from error


@contextmanager
def _termination_raises() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    # Only the main thread may set a handler, and only it gets the exception.
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        with ending_in_peace():
            yield
    finally:
        # What several processes end with is told outside, and they are told to end.
        if signal.getsignal(signal.SIGTERM) is terminate:
            signal.signal(signal.SIGTERM, before)


def _what_is_left(error: BaseException, otherwise: str) -> str:
    return "; ".join(notes_of(error)) or otherwise


def _say(sentence: str) -> None:
    """Print a sentence to the standard error, which may be closed too."""
    with suppress(BrokenPipeError):
        typer.echo(f"fxgrow: {sentence}", err=True)


def _discard_output() -> None:
    """Let what is still buffered go nowhere: Python would fail once more when it ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(null, stream.fileno())
    os.close(null)
