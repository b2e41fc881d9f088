"""``fxgrow schema``: the JSON Schemas of what fxgrow writes; a test keeps those in ``specs/schema/`` up to date."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer
from pydantic import BaseModel

from fxgrow.cells import Genotype
from fxgrow.cli.console import show_text
from fxgrow.continual.result import ContinualResult
from fxgrow.errors import RunError
from fxgrow.spec import ArchitectureSpec, GrowthStep
from fxgrow.training import Recipe, Result

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# A growth step has no version of its own: it is a part of the architecture it is in.
SCHEMAS: Mapping[str, type[BaseModel]] = MappingProxyType(
    {
        "architecture": ArchitectureSpec,
        "growth-step": GrowthStep,
        "genotype": Genotype,
        "recipe": Recipe,
        "run-result": Result,
        "continual-result": ContinualResult,
    }
)
DEFAULT = "architecture"
Name = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help=", ".join(SCHEMAS), show_default=f"{DEFAULT}; all of them with --out"),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="write DIR/NAME.json instead", show_default=False)
]


def print_schema(name: Name = None, out: Out = None) -> None:
    """Print the JSON Schema of a kind of document, or write it, or all of them, to a directory."""
    if name is not None and name not in SCHEMAS:
        raise RunError("unknown-schema", f"there is no schema of {name!r}; there are {', '.join(SCHEMAS)}")
    if out is None:
        show_text(schema_text(name or DEFAULT).rstrip("\n"))
        return
    for each in SCHEMAS if name is None else (name,):
        show_text(str(_written(out / f"{each}.json", schema_text(each))))


def _written(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError("unwritable-run", f"{path} cannot be written ({error}); choose another place") from error
    return path


def schema_text(name: str) -> str:
    """The schema as it is committed: keys sorted, two spaces, newline at the end."""
    schema = {"$schema": DIALECT, **SCHEMAS[name].model_json_schema()}
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"
