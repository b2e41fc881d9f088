"""``fxgrow expand``: start a bigger model with the function of a smaller one."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text
from torch import nn

from fxgrow.api import save
from fxgrow.cli.arguments import AsJsonOption, ForceOption, ModelReference, SeedOption
from fxgrow.cli.console import print_parts, print_text
from fxgrow.cli.model_and_data import ModelAndData, load_model
from fxgrow.errors import ModelError
from fxgrow.growth import Expanded, grow_to
from fxgrow.report import expansion_line, expansion_table
from fxgrow.spec import load
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
ExpandedPath = Annotated[
    Path,
    typer.Option("--out", metavar="DIR", help="the directory to write", show_default=False),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="a run or spec directory whose parameters MODEL gets, since a reference that names an "
        "architecture has random ones",
        show_default="none",
    ),
]


def expand_model(
    model: ModelReference,
    to: BigReference,
    out: ExpandedPath,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: AsJsonOption = False,
) -> None:
    """Write the model --to with parameters that make it compute what MODEL does.

    A model of transformers is written by its save_pretrained, any other one as a spec directory.
    """
    small = load_model(model, seed=seed)
    if weights is not None:
        _take_weights(small, weights)
    # Its own parameters do not matter, but they are as random with one seed as with another.
    big = load_model(to, seed=seed)
    with run_directory(out, replace=force) as staging:
        expanded = grow_to(small.model, big.model, small.example_inputs, seed=seed)
        _write(expanded, staging)
    if as_json:
        print_text(json.dumps(_to_record(expanded), indent=2))
        return
    print_parts(expansion_table(expanded), expansion_line(expanded), Text(f"written to {out}"))


def _take_weights(small: ModelAndData, directory: Path) -> None:
    """Give a model the parameters of a saved one."""
    try:
        small.model.load_state_dict(load(directory).state_dict())
    except RuntimeError as error:
        raise ModelError(
            "unlike-weights",
            f"the parameters in {directory} are not those of {small.label}: "
            f"{str(error).splitlines()[-1].strip()}; name the model that was saved there",
        ) from error


def _write(expanded: Expanded, directory: Path) -> None:
    module: Any = expanded.module
    if _is_pretrained(module):
        # Its graph calls functions beyond the allow-list of specifications.
        module.save_pretrained(directory)
        return
    save(expanded, directory)


def _is_pretrained(module: nn.Module) -> bool:
    return callable(getattr(module, "save_pretrained", None))


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
