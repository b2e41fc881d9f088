"""What the commands that give a bigger model of the user's own class share."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from fxgrow.api import save
from fxgrow.cli.model_and_data import ModelAndData
from fxgrow.cli.schemes import example_inputs_of
from fxgrow.errors import ModelError
from fxgrow.growth import Deepened, Extended, Widened
from fxgrow.spec import load, spec_of

BiggerPath = Annotated[
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


def take_weights(small: ModelAndData, directory: Path | None) -> ModelAndData:
    """A model with the parameters of a saved one, with its inputs and its history.

    Args:
        small: the model, which is changed.
        directory: what was saved; None: nothing, so that the model stays as it is.

    Raises:
        ModelError: ``unlike-weights`` if the parameters are those of another model.
        SpecError: the directory cannot be read.
    """
    if directory is None:
        return small
    # Safe tensors: nothing in the directory is run.
    saved = load(directory)
    try:
        small.model.load_state_dict(saved.state_dict())
    except RuntimeError as error:
        raise ModelError(
            "unlike-weights",
            f"the parameters in {directory} are not those of {small.label}: "
            f"{str(error).splitlines()[-1].strip()}; name the model that was saved there",
        ) from error
    spec = spec_of(saved)
    # The inputs are a part of the fingerprint that the next step of the history names.
    return replace(small, example_inputs=example_inputs_of(spec), history=spec.history)


def write_bigger(bigger: Widened | Deepened | Extended, directory: Path) -> None:
    """Write a model of transformers by its ``save_pretrained``, any other one as a spec directory.

    Args:
        bigger: the model.
        directory: a new one.
    """
    module: Any = bigger.module
    if callable(getattr(module, "save_pretrained", None)):
        # Its graph calls functions beyond the allow-list of specifications.
        module.save_pretrained(directory)
        return
    save(bigger, directory)
