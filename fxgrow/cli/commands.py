"""How all commands end.

The exit code is 0 if the command did its work, 1 for a bug (with its traceback), 2 for wrong input
(one sentence), 130 if it was interrupted.
"""

from typing import Any

import typer
from typer.core import TyperGroup

from fxgrow.cli.console import print_error
from fxgrow.errors import FxgrowError

WRONG_INPUT = 2
# 128 + SIGINT, as shells report it.
INTERRUPTED = 130


class ErrorHandlingGroup(TyperGroup):
    """A group of commands that turns user errors into one sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; all other exceptions are bugs and pass through with their traceback."""
        try:
            return super().invoke(ctx)
        except FxgrowError as error:
            print_error(error)
            raise typer.Exit(WRONG_INPUT) from error
        except KeyboardInterrupt as error:
            typer.echo("fxgrow: interrupted; nothing was written", err=True)
            raise typer.Exit(INTERRUPTED) from error
