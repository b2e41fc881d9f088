"""``fxgrow methods``: the growth methods, their references and what they cost."""

import json
from dataclasses import asdict

from rich.text import Text

from fxgrow.cli.arguments import AsJsonOption
from fxgrow.cli.console import print_parts, print_text
from fxgrow.methods import CATALOG, METHODS, available_methods
from fxgrow.report import methods_tables


def list_methods(as_json: AsJsonOption = False) -> None:
    """List the growth methods: cost, whether they keep the function, reference.

    Methods of other packages are listed by name and place; their code is not imported.
    """
    others: dict[str, str] = {}
    for name, place in available_methods().items():
        if name not in METHODS:
            others[name] = place
    if as_json:
        rows = [asdict(row) for row in CATALOG]
        print_text(json.dumps({"methods": rows, "packages": others}, indent=2))
        return
    advice = "Choose one by --method NAME; docs/methods.md has equations, and when to use which."
    print_parts(*methods_tables(CATALOG, others), Text(advice))
