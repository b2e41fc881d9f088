"""Pages of the reference, out of the code: the public names of fxgrow, and the commands of its program."""

import inspect
from collections.abc import Iterator
from typing import Any

import typer

import fxgrow
from fxgrow.cli.main import app

TITLES = {
    "fxgrow.api": "Growing and saving",
    "fxgrow.growth": "Growth: budgets, results, other ways to grow",
    "fxgrow.methods": "Methods",
    "fxgrow.training": "Training",
    "fxgrow.surgery": "Optimizer state",
    "fxgrow.coupling": "Coupling",
    "fxgrow.capture": "Capture",
    "fxgrow.lowering": "Lowering",
    "fxgrow.spec": "Specifications",
    "fxgrow.export": "Export",
    "fxgrow.errors": "Errors",
}
"""Titles of the pages, by the module that the names of a page are imported from."""


def homes() -> dict[str, list[str]]:
    """The public names that have a docstring, by the module that they are imported from."""
    found: dict[str, list[str]] = {module: [] for module in TITLES}
    for name in fxgrow.__all__:
        if name != "__version__":
            found[fxgrow._HOME_OF[name]].append(name)
    return found


def api_pages() -> dict[str, str]:
    """The Markdown of the pages of public names, by path in the site.

    The names are those that mkdocstrings finds without running the code, so they are given by where they are defined.
    """
    pages = {}
    for module, names in homes().items():
        parts = [f"# {TITLES[module]}", f"`from fxgrow import {', '.join(names)}`"]
        for name in names:
            value = getattr(fxgrow, name)
            parts.append(f"::: {inspect.unwrap(value).__module__}.{value.__qualname__}")
        pages[f"reference/{module.partition('.')[2]}.md"] = "\n\n".join(parts) + "\n"
    return pages


def commands_page() -> str:
    """The Markdown of the page of commands: what each does, its arguments and options."""
    parts = ["# Commands", "What `fxgrow COMMAND --help` prints, in one page."]
    for name, command in _commands(typer.main.get_command(app), "fxgrow"):
        parts += [f"## {name}", _text(command.help), *_parameters(command)]
    return "\n\n".join(parts) + "\n"


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The commands of a group, those of groups inside it included, with what is typed to call them."""
    for row in group.table:
        command = group.load(row.name)
        if hasattr(command, "table"):
            yield from _commands(command, f"{path} {row.name}")
        else:
            yield f"{path} {row.name}", command


def _parameters(command: Any) -> Iterator[str]:
    """A table of the arguments and options of a command."""
    rows = []
    for parameter in command.params:
        if parameter.name == "help" or getattr(parameter, "hidden", False):
            continue
        names = ", ".join([*parameter.opts, *parameter.secondary_opts])
        if parameter.param_type_name == "argument":
            names = parameter.metavar or parameter.name.upper()
        rows.append(f"| {_code(names)} | {_default(parameter)} | {_text(parameter.help)} |")
    if rows:
        yield "\n".join(["| argument or option | default | means |", "|---|---|---|", *rows])


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    # A number 0 is a default that is shown; False, like nothing at all, is a flag that is not given.
    is_nothing = parameter.default is None or parameter.default is False
    if is_nothing or callable(parameter.default) or parameter.default in ((), []):
        return ""
    return _code(str(getattr(parameter.default, "value", parameter.default)))


def _code(text: str) -> str:
    return f"`{text}`".replace("|", r"\|")


def _text(text: str | None) -> str:
    """Help as Markdown that means the same: nothing in it is markup."""
    plain = inspect.cleandoc(text or "")
    for character in "\\`*_[]<>|":
        plain = plain.replace(character, f"\\{character}")
    return plain
