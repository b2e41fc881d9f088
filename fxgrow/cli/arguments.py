"""Arguments and options that commands share, and how words become settings."""

from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from fxgrow.errors import BudgetError, TrainingError
from fxgrow.growth import Budget

ModelWords = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="torchvision:NAME, timm:NAME, hf:NAME, package.module:factory (options: ?num_classes=10&width=0.5) "
        "or a run or spec directory",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead of tables")]
Directory = Annotated[Path, typer.Argument(metavar="DIR", help="a run or spec directory", show_default=False)]

Settings = TypeVar("Settings", bound=BaseModel)


def settings(kind: type[Settings], **values: Any) -> Settings:
    """Settings from what the user said; None: not said. Raises ``TrainingError`` (``bad-setting``)."""
    said = {name: value for name, value in values.items() if value is not None}
    try:
        return kind(**said)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise TrainingError(
            "bad-setting", f"--{name.replace('_', '-')} {first['input']} cannot be used: {first['msg'].lower()}"
        ) from error


def budget(words: str) -> Budget:
    """A number of neurons (``64``) or a fraction of them (``0.3``). Raises ``BudgetError``."""
    for number in (int, float):
        try:
            return Budget(neurons=number(words))
        except ValueError:
            continue
    raise BudgetError(
        "bad-budget", f"--neurons {words} is no number; give a count such as 64 or a fraction such as 0.3"
    )
