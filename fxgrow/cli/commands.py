"""How all commands end: 0 done, 1 a bug of ours (with its traceback), 2 wrong input (one sentence), 130 interrupted."""

from typing import Any

import typer
from typer.core import TyperGroup

from fxgrow.cli.console import print_error
from fxgrow.errors import FxgrowError

WRONG_INPUT = 2
INTERRUPTED = 130


class ErrorHandlingGroup(TyperGroup):
    """A group of commands that turns the user's errors into a sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except FxgrowError as error:
            print_error(error)
            raise typer.Exit(WRONG_INPUT) from error
        except KeyboardInterrupt as error:
            typer.echo("fxgrow: interrupted; nothing was written", err=True)
            raise typer.Exit(INTERRUPTED) from error
