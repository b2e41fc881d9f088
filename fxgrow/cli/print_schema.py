"""``fxgrow schema``: the JSON Schemas of what fxgrow writes; a test keeps those in ``specs/schema/`` up to date."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer
from pydantic import BaseModel

from fxgrow.cells import Genotype
from fxgrow.cli.arguments import ForceFile
from fxgrow.cli.console import print_text
from fxgrow.continual import ContinualResult
from fxgrow.documents import (
    FILE_OUTPUT,
    atomic_path,
    check_target,
    foreign_file,
    is_schema,
    os_errors_as,
    resolve_target,
)
from fxgrow.errors import RunError
from fxgrow.spec import ArchitectureSpec, GrowthStep
from fxgrow.training import Recipe, RunResult

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# A growth step has no version of its own: it is a part of the architecture it is in.
SCHEMAS: Mapping[str, type[BaseModel]] = MappingProxyType(
    {
        "architecture": ArchitectureSpec,
        "growth-step": GrowthStep,
        "genotype": Genotype,
        "recipe": Recipe,
        "run-result": RunResult,
        "continual-result": ContinualResult,
    }
)
_DEFAULT_SCHEMA = "architecture"
_STRANGER = foreign_file(is_schema)
SchemaNameArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help=", ".join(SCHEMAS),
        show_default=f"{_DEFAULT_SCHEMA}; all of them with --out",
    ),
]
SchemaPathOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="write DIR/NAME.json instead", show_default=False),
]


def print_schema(
    name: SchemaNameArgument = None, out: SchemaPathOption = None, force: ForceFile = False
) -> None:
    """Print the JSON Schema of a kind of document, or write it, or all of them, to a directory."""
    if name is not None and name not in SCHEMAS:
        raise RunError(
            "unknown-schema", f"there is no schema of {name!r}; there are {', '.join(SCHEMAS)}"
        )
    if out is None:
        print_text(schema_text(name or _DEFAULT_SCHEMA).rstrip("\n"))
        return
    paths = {each: out / f"{each}.json" for each in (SCHEMAS if name is None else (name,))}
    for path in paths.values():  # all of them first, so that none is written if one has to stay
        check_target(resolve_target(path, FILE_OUTPUT), FILE_OUTPUT, _STRANGER, force=force)
    for each, path in paths.items():
        with (
            atomic_path(path, FILE_OUTPUT, _STRANGER, force=force) as staging,
            os_errors_as(path, FILE_OUTPUT),
        ):
            staging.write_text(schema_text(each), encoding="utf-8")
        print_text(str(path))


def schema_text(name: str) -> str:
    """The schema as it is committed: keys sorted, two spaces, newline at the end."""
    schema = {"$schema": DIALECT, **SCHEMAS[name].model_json_schema()}
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"
