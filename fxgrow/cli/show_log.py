"""``fxgrow log``: how a saved model became what it is."""

import json

from rich.text import Text

from fxgrow.cli.arguments import AsJsonOption, DirectoryArgument
from fxgrow.cli.console import print_parts, print_text
from fxgrow.report import lineage_table
from fxgrow.spec import read_spec, to_json


def show_log(directory: DirectoryArgument, as_json: AsJsonOption = False) -> None:
    """List the growth steps of a saved model, with the fingerprint of every architecture that it has been."""
    spec = read_spec(directory)
    if as_json:
        steps = [to_json(step) for step in spec.history]
        print_text(json.dumps({"fingerprint": spec.fingerprint, "history": steps}, indent=2))
        return
    print_parts(lineage_table(spec), *([] if spec.history else [Text("never grown")]))
