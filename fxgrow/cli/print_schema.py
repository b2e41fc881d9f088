"""``fxgrow schema``: the JSON Schema of specifications; ``specs/schema/`` holds it, a test keeps it up to date."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fxgrow.cli.console import show_text
from fxgrow.errors import RunError
from fxgrow.spec import ArchitectureSpec

SCHEMA = "architecture.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help=f"write DIR/{SCHEMA} instead", show_default=False),
]


def print_schema(out: Out = None) -> None:
    """Print the JSON Schema of specifications, or write it to a directory."""
    if out is None:
        show_text(schema_text().rstrip("\n"))
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / SCHEMA).write_text(schema_text(), encoding="utf-8")
    except OSError as error:
        raise RunError("unwritable-run", f"{out / SCHEMA} cannot be written ({error}); choose another place") from error
    show_text(str(out / SCHEMA))


def schema_text() -> str:
    """The schema as it is committed: keys sorted, two spaces, newline at the end."""
    schema = {"$schema": DIALECT, **ArchitectureSpec.model_json_schema()}
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"
