"""Run a notebook in this process: `make notebook` renews the outputs of docs/tutorial.ipynb.

    python -m tools.docs_site.notebook docs/tutorial.ipynb

Cells run one after the other in one namespace. What they print is kept, and nothing else is needed that Jupyter
would bring: a notebook is JSON (nbformat 4).
"""

import argparse
import contextlib
import io
import json
from pathlib import Path
from typing import Any


def read(path: Path) -> dict[str, Any]:
    """The notebook."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def run(notebook: dict[str, Any], name: str) -> dict[str, Any]:
    """Run all code cells.

    Args:
        notebook: as ``read`` gives it.
        name: in tracebacks.

    Returns:
        The notebook with what the cells printed.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    cells, count = [], 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            count += 1
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                code = compile("".join(cell["source"]), f"{name}, cell {count}", "exec")
                exec(code, namespace)  # noqa: S102 - running the cells is what this is for
            cell = {**cell, "execution_count": count, "outputs": _outputs(printed.getvalue())}
        cells.append(cell)
    return {**notebook, "cells": cells}


def _outputs(text: str) -> list[dict[str, Any]]:
    if not text:
        return []
    return [{"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)}]


def markdown(notebook: dict[str, Any]) -> str:
    """The notebook as a page: its text, its code, and what that printed."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            parts.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
    return "\n\n".join([*parts, ""])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path)
    path = parser.parse_args().path
    finished = run(read(path), path.name)
    path.write_text(json.dumps(finished, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
