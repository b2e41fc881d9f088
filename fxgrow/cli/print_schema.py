"""``fxgrow schema``: the JSON Schemas of the documents that fxgrow writes.

Those in ``specs/schema/`` are committed; a test keeps them up to date.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer
from pydantic import BaseModel

from fxgrow.cells import Genotype
from fxgrow.cli.arguments import ForceFile, require_used
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
# A growth step has no version of its own, because it is a part of an architecture.
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
_IS_FOREIGN = foreign_file(is_schema)
SchemaNameArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help=f"the kind of document: {', '.join(SCHEMAS)}",
        show_default=f"{_DEFAULT_SCHEMA}; all of them with --out",
    ),
]
SchemaPathOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="write DIR/NAME.json instead", show_default=False),
]


def print_schema(
    ctx: typer.Context,
    name: SchemaNameArgument = None,
    out: SchemaPathOption = None,
    force: ForceFile = False,
) -> None:
    """Print the JSON Schema of a kind of document; or write it, or all of them, to a directory."""
    require_used(ctx, ("force",), out is not None, "--out")
    if name is not None and name not in SCHEMAS:
        raise RunError(
            "unknown-schema", f"there is no schema of {name!r}; there are {', '.join(SCHEMAS)}"
        )
    if out is None:
        print_text(schema_text(name or _DEFAULT_SCHEMA).rstrip("\n"))
        return
    names = tuple(SCHEMAS) if name is None else (name,)
    _write_schemas(names, out, force)


def _write_schemas(names: tuple[str, ...], directory: Path, force: bool) -> None:
    paths = {name: directory / f"{name}.json" for name in names}
    # All targets are checked first, so that none is written if one of them must not be replaced.
    for path in paths.values():
        check_target(resolve_target(path, FILE_OUTPUT), FILE_OUTPUT, _IS_FOREIGN, force=force)
    for name, path in paths.items():
        with (
            atomic_path(path, FILE_OUTPUT, _IS_FOREIGN, force=force) as staging,
            os_errors_as(path, FILE_OUTPUT),
        ):
            staging.write_text(schema_text(name), encoding="utf-8")
        print_text(str(path))


def schema_text(name: str) -> str:
    """The schema as it is committed: keys sorted, indented by two spaces, newline at the end."""
    schema = {"$schema": DIALECT, **SCHEMAS[name].model_json_schema()}
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"
