"""Groups of commands whose modules are imported when a command is called.

Almost every command needs torch, which takes seconds to import. Help, completion and the nearest
name to a misspelled one need no more than the table of a group.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True)
class CommandRow:
    """A command in the table of its group.

    Args:
        name: the word that calls it.
        target: where it is, ``"module:name"``: a function, or a group of commands.
        summary: what the help of the group says of it: the first paragraph of the function's
            docstring, or of the group's help.
    """

    name: str
    target: str
    summary: str

    def load(self) -> Any:
        """Import the command, as click takes it."""
        module, _, attribute = self.target.partition(":")
        target = getattr(importlib.import_module(module), attribute)
        if isinstance(target, LazyGroup):
            return target
        alone = typer.Typer(add_completion=False)
        alone.command(self.name)(target)
        return typer.main.get_command(alone)


class LazyGroup(TyperGroup):
    """A group that has a table of its commands, in the order in which the help lists them."""

    table: ClassVar[Sequence[CommandRow]] = ()

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for row in self.table:
            # What help and completion see of it.
            self.commands[row.name] = TyperCommand(row.name, help=row.summary)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the command that is called; an unknown name is an error that names the nearest."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, self.load(name), rest

    def load(self, name: str | None) -> Any:
        """Import a command by its name."""
        row = next(row for row in self.table if row.name == name)
        return row.load()
