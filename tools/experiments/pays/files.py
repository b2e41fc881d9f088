"""Records on disk: each written whole or not at all, so that a run that was stopped goes on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two processes may write different records of one folder at the same time.
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(record, indent=1) + "\n")
    partial.replace(path)


def read(path: Path) -> dict[str, Any]:
    """Read a record."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found
