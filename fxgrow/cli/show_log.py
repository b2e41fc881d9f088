"""``fxgrow log``: the growth history of a saved model."""

import json

from rich.text import Text

from fxgrow.cli.arguments import AsJsonOption, DirectoryArgument
from fxgrow.cli.console import print_parts, print_text
from fxgrow.report import lineage_table
from fxgrow.spec import ArchitectureSpec, read_spec, to_json


def show_log(directory: DirectoryArgument, as_json: AsJsonOption = False) -> None:
    """List the growth steps of a saved model, with the fingerprint of the architecture at each."""
    spec = read_spec(directory)
    if as_json:
        print_text(_history_json(spec))
        return
    print_parts(lineage_table(spec))
    if not spec.history:
        print_parts(Text("never grown"))


def _history_json(spec: ArchitectureSpec) -> str:
    steps = [to_json(step) for step in spec.history]
    return json.dumps({"fingerprint": spec.fingerprint, "history": steps}, indent=2)
