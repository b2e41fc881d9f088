"""Arguments and options that commands share, and how words become settings."""

from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
import typer
from pydantic import BaseModel, ValidationError

from fxgrow.data import SOURCES
from fxgrow.errors import BudgetError, TrainingError
from fxgrow.growth import Budget

ModelReference = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="torchvision:NAME, timm:NAME, hf:NAME, package.module:factory (options: ?num_classes=10&width=0.5) "
        "or a run or spec directory; a factory is imported and called, which runs its code",
        show_default=False,
    ),
]
TrustModulesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="MODULE",
        help="a module (this one, none inside it) whose factories the recipe may call, which runs its code",
        show_default="none",
    ),
]
LowerOption = Annotated[
    bool, typer.Option("--lower", help="make the heads of fused attention growable first")
]
AsJsonOption = Annotated[bool, typer.Option("--json", help="print JSON instead of tables")]
DirectoryArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="a run or spec directory", show_default=False)
]
OutOption = Annotated[
    Path,
    typer.Option("--out", metavar="DIR", help="the run directory to write", show_default=False),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="replace an earlier run in --out, and nothing else")
]
ForceFile = Annotated[bool, typer.Option("--force", help="replace an earlier file of this kind")]
DataOption = Annotated[str, typer.Option("--data", metavar="NAME", help=", ".join(SOURCES))]
DataRootOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="where the files of cifar or imagefolder lie", show_default=False
    ),
]
LimitOption = Annotated[
    int | None, typer.Option(help="use that many training images", show_default="all")
]
ClassesOption = Annotated[
    int | None, typer.Option(help="classes of shapes: 10, 20, 100", show_default="10")
]
SizeOption = Annotated[int | None, typer.Option(help="side of the images", show_default="32")]
LearningRateOption = Annotated[
    float, typer.Option("--lr", help="learning rate at the start; it falls to 0")
]
BatchSizeOption = Annotated[int, typer.Option(help="images per step of training")]
DeviceOption = Annotated[
    str, typer.Option(metavar="NAME", help="where to compute: cpu, cuda, cuda:1")
]
DumpGraphsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="write the fx graphs of every step as text", show_default=False
    ),
]

SettingsModel = TypeVar("SettingsModel", bound=BaseModel)


def build_settings(kind: type[SettingsModel], **values: Any) -> SettingsModel:
    """Settings from what the user said; None: not said. Raises ``TrainingError`` (``bad-setting``)."""
    said = {name: value for name, value in values.items() if value is not None}
    try:
        return kind(**said)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise TrainingError(
            "bad-setting",
            f"--{name.replace('_', '-')} {first['input']} cannot be used: {first['msg'].lower()}",
        ) from error


def resolve_device(name: str) -> torch.device:
    """A device that can be computed on. Raises ``TrainingError`` (``no-device``)."""
    try:
        torch.empty(1, device=name).item()
        return torch.device(name)
    except (
        RuntimeError,
        AssertionError,
    ) as error:  # an AssertionError if torch was built without CUDA
        reason = str(error).splitlines()[0]
        raise TrainingError(
            "no-device",
            f"--device {name} cannot be computed on ({reason}); leave it out to use the processor",
        ) from error


DEFAULT_NEURONS = 0.3
"""The budget of a growth step if no other limit is given."""


def build_budget(round_to: int, layers: int, **words: str | None) -> Budget:
    """A budget of counts (``64``) and fractions (``0.3``) by unit; None: no limit. Raises ``BudgetError``."""
    said = {name: parse_amount(name, word) for name, word in words.items() if word is not None}
    default = {} if said.keys() - {"per_width"} else {"neurons": DEFAULT_NEURONS}
    return Budget.model_validate(
        {"round_to": round_to, "layers": layers or None, **default, **said}
    )


def parse_amount(name: str, word: str) -> int | float:
    """A count or a fraction in words; ``name``: of the option. Raises ``BudgetError`` (``bad-budget``)."""
    for number in (int, float):
        try:
            return number(word)
        except ValueError:
            continue
    raise BudgetError(
        "bad-budget",
        f"--{name.replace('_', '-')} {word} is no number; give a count such as 64 or a fraction such as 0.3",
    )
