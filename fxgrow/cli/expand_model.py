"""``fxgrow expand``: start a bigger model with the function of a smaller one."""

import json
from typing import Annotated, Any

import typer
from rich.text import Text

from fxgrow.cli.arguments import AsJsonOption, ForceOption, ModelReference, SeedOption
from fxgrow.cli.bigger_model import BiggerPath, WeightsOption, take_weights, write_bigger
from fxgrow.cli.console import print_parts, print_text
from fxgrow.cli.model_and_data import load_model
from fxgrow.growth import Expanded, grow_to
from fxgrow.report import expansion_line, expansion_table
from fxgrow.training import run_directory

BigReference = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="MODEL",
        help="the bigger model of the same family, wider, deeper or both: a reference as MODEL",
        show_default=False,
    ),
]


def expand_model(
    model: ModelReference,
    to: BigReference,
    out: BiggerPath,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: AsJsonOption = False,
) -> None:
    """Write the model --to with parameters that make it compute what MODEL does.

    A model of transformers is written by its save_pretrained, any other one as a spec directory.
    """
    # A place where nothing can be written is told before anything is made.
    with run_directory(out, replace=force) as staging:
        small = take_weights(load_model(model, seed=seed), weights)
        # Its own parameters do not matter, but they are as random with one seed as with another.
        big = load_model(to, seed=seed)
        inputs, history = small.example_inputs, small.history
        expanded = grow_to(small.model, big.model, inputs, seed=seed, history=history)
        write_bigger(expanded, staging)
    if as_json:
        print_text(json.dumps(_to_record(expanded), indent=2))
        return
    print_parts(expansion_table(expanded), expansion_line(expanded), Text(f"written to {out}"))


def _to_record(expanded: Expanded) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "widths": {
            name: [expanded.sizes[name], expanded.sizes[name] + count]
            for name, count in expanded.amounts.items()
        },
        "new_blocks": dict(expanded.new_blocks),
        "preservation_error": expanded.preservation_error,
        "unchecked": expanded.unchecked,
    }
