"""Arguments and options that commands share, and how their text becomes settings."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_origin

import torch
import typer
from pydantic import BaseModel, ValidationError

from fxgrow.argument_checks import shown
from fxgrow.cli.reference_grammar import parse_options
from fxgrow.data import SOURCES
from fxgrow.documents import Settings
from fxgrow.errors import ArgumentError, BudgetError, TrainingError
from fxgrow.growth import Budget
from fxgrow.training import LOGGERS, TRIGGERS

ModelReference = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="the model: torchvision:NAME, timm:NAME, hf:NAME or package.module:factory, with "
        "options such as ?num_classes=10&width=0.5; or a run or spec directory; a factory is "
        "imported and called, which runs its code",
        show_default=False,
    ),
]
TrustModulesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="MODULE",
        help="a module whose factories the recipe may call, which runs their code; modules inside "
        "it are not included",
        show_default="none",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="another value for a field of the recipe, in YAML; dots for nested ones "
        "(settings.lr=0.05)",
        show_default="none",
    ),
]
LowerOption = Annotated[
    bool,
    typer.Option(
        "--lower",
        help="first bring attention into a form whose heads can grow",
    ),
]
LoggersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--log",
        metavar="NAME",
        help=f"also write what is measured for {', '.join(LOGGERS)}; may be repeated",
        show_default="log.jsonl alone",
    ),
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
DataOption = Annotated[
    str, typer.Option("--data", metavar="NAME", help=f"the data set: {', '.join(SOURCES)}")
]
DataRootOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="directory with the files of cifar or imagefolder", show_default=False
    ),
]
LimitOption = Annotated[
    int | None, typer.Option(help="number of training images to use", show_default="all")
]
ClassesOption = Annotated[
    int | None,
    typer.Option(help="number of classes of the shapes data: 10, 20, 100", show_default="10"),
]
SizeOption = Annotated[
    int | None, typer.Option(help="height and width of the images in pixels", show_default="32")
]
SeedOption = Annotated[
    int,
    typer.Option(help="random seed of the weights, the order of the images and the candidates"),
]
LearningRateOption = Annotated[
    float, typer.Option("--lr", help="learning rate at the start, before it falls")
]
BatchSizeOption = Annotated[int, typer.Option(help="images per training step")]
DeviceOption = Annotated[
    str, typer.Option(metavar="NAME", help="the device to compute on: cpu, cuda, cuda:1")
]
DumpGraphsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="write the fx graphs of every growth step as text", show_default=False
    ),
]

_Settings = TypeVar("_Settings", bound=BaseModel)
_Entry = TypeVar("_Entry")


def flag(name: str) -> str:
    """The option of a setting: ``grow_steps`` -> ``--grow-steps``."""
    return f"--{name.replace('_', '-')}"


def build_settings(kind: type[_Settings], **values: Any) -> _Settings:
    """Build settings from the values of options.

    Args:
        kind: the class of the settings, a pydantic model.
        values: by the name of the setting; None: the option was not given, so its default holds.

    Returns:
        The checked settings.

    Raises:
        TrainingError: ``bad-setting``, about the first value that is out of range.
    """
    given = without_none(values)
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise _wrong_setting(error) from error


def _wrong_setting(error: ValidationError, option: str = "") -> TrainingError:
    """What is said of the first value that is out of range.

    Args:
        error: about values that options gave.
        option: that all of them belong to; "" if each value has an option of its own.
    """
    first = error.errors(include_url=False)[0]
    name = ".".join(map(str, first["loc"]))
    # Texts without the quotes of Python, as they were typed.
    value = first["input"] if isinstance(first["input"], str) else shown(first["input"])
    # Settings that contradict each other are nobody's own fault: then there is no name.
    if option:
        subject = f"{option} cannot be used" + (f" with {name}={value}" if name else "")
    else:
        subject = f"{flag(name)} {value} cannot be used" if name else "the options cannot be used"
    reason = first["msg"].removeprefix("Value error, ")
    return TrainingError("bad-setting", f"{subject}: {reason[:1].lower()}{reason[1:]}")


def build_option(option: str, kind: type[_Settings], **values: Any) -> _Settings:
    """Build settings that a single option is about.

    Args:
        option: as a parameter of the command.
        kind: the class of the settings, a pydantic model.
        values: by the name of the setting.

    Returns:
        The checked settings.

    Raises:
        TrainingError: ``bad-setting``, about the first value that is out of range.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _wrong_setting(error, flag(option)) from error


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Only the options that were given."""
    return {name: value for name, value in values.items() if value is not None}


def require_used(ctx: typer.Context, names: Sequence[str], is_used: bool, needed: str) -> None:
    """Check that options are not given where nothing looks at them.

    Args:
        ctx: of the command; it knows which options were typed.
        names: of the options, as parameters of the command.
        is_used: whether they have an effect.
        needed: what they need to have one.

    Raises:
        ArgumentError: ``unused-option``, about the first one that was typed.
    """
    for name in names:
        source = ctx.get_parameter_source(name)
        if not is_used and source is not None and source.name == "COMMANDLINE":
            raise ArgumentError(
                "unused-option",
                f"{flag(name)} has no effect without {needed}; say that too, or leave it out",
            )


def find_method(name: str, methods: Mapping[str, _Entry]) -> _Entry:
    """Look up the value of ``--method`` in a table.

    Args:
        name: as the user gave it.
        methods: the methods of the command by name.

    Returns:
        The entry of that name.

    Raises:
        TrainingError: ``bad-setting`` if there is none.
    """
    return find_named("method", name, methods)


def find_named(option: str, name: str, entries: Mapping[str, _Entry]) -> _Entry:
    """Look up the value of an option in a table.

    Args:
        option: as a parameter of the command.
        name: as the user gave it.
        entries: what the option may name.

    Returns:
        The entry of that name.

    Raises:
        TrainingError: ``bad-setting`` if there is none.
    """
    if name not in entries:
        raise TrainingError(
            "bad-setting",
            f"{flag(option)} {name} is unknown, so nothing was run; choose one of "
            f"{', '.join(entries)}",
        )
    return entries[name]


def build_method(
    name: str,
    kind: type[_Settings],
    values: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
) -> _Settings:
    """Build the settings of a method from the values of options.

    Args:
        name: of the method, for messages.
        kind: the class of the method, a pydantic model whose fields are the settings.
        values: by the name of the setting; None: the option was not given.
        defaults: settings that differ from the defaults of the class.

    Returns:
        The checked settings.

    Raises:
        TrainingError: ``bad-setting`` if an option that was given is no setting of this method, or
            is out of range.
    """
    given = without_none(values)
    settings = inspect.signature(kind).parameters
    for setting in given:
        if setting not in settings:
            raise TrainingError(
                "bad-setting", f"{flag(setting)} is no setting of {name}; leave it out"
            )
    return build_settings(kind, **{**(defaults or {}), **given})


def build_trigger(word: str) -> Settings:
    """Build a trigger from the text of ``--grow-when``.

    Args:
        word: its name, and its settings behind a question mark: ``AtEpochs?epochs=1,3``.

    Returns:
        The checked settings.

    Raises:
        TrainingError: ``bad-setting`` if there is no such trigger, or a setting is none of its own
            or out of range.
        ModelError: ``bad-reference`` if the settings are malformed.
    """
    name, _, query = word.partition("?")
    kind = find_named("grow_when", name, TRIGGERS)
    values = parse_options(query)
    for setting, value in values.items():
        field = kind.model_fields.get(setting)
        # One epoch is a list of epochs, too.
        if field is not None and get_origin(field.annotation) is tuple:
            values[setting] = value if isinstance(value, tuple) else (value,)
    try:
        return kind.model_validate({"name": name, **values})
    except ValidationError as error:
        raise _wrong_setting(error, f"--grow-when {name}") from error


def resolve_device(name: str) -> torch.device:
    """Find the device of that name, and compute on it once to see that it works.

    Raises:
        TrainingError: ``no-device`` if it does not.
    """
    try:
        torch.empty(1, device=name).item()
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        # It is an AssertionError if torch was built without CUDA.
        reason = str(error).splitlines()[0]
        raise TrainingError(
            "no-device",
            f"--device {name} cannot be computed on ({reason}); leave it out to use the processor",
        ) from error


# The budget of a growth step if no other limit is given: 30 % more neurons.
DEFAULT_NEURONS = 0.3


def build_budget(round_to: int, layers: int, **words: str | None) -> Budget:
    """Build a budget from the text of options.

    Args:
        round_to: every width that grows ends at a multiple of it.
        layers: how many layers may be inserted; 0: none.
        words: by unit, a count (``64``) or a fraction (``0.3``); None: no limit.

    Returns:
        The budget; with ``DEFAULT_NEURONS`` if neither neurons nor a cost is limited.

    Raises:
        BudgetError: ``bad-budget`` for text that is no number, and what ``Budget`` raises.
    """
    amounts: dict[str, Any] = {}
    for name, word in words.items():
        if word is not None:
            amounts[name] = parse_amount(name, word)
    # A limit per width says where neurons may go, not how many there may be in all.
    if not amounts.keys() - {"per_width"}:
        amounts = {"neurons": DEFAULT_NEURONS, **amounts}
    return Budget.model_validate({"round_to": round_to, "layers": layers or None, **amounts})


def parse_amount(name: str, word: str) -> int | float:
    """Read a count or a fraction.

    Args:
        name: of the option, for messages.
        word: its text.

    Returns:
        An integer if the text is one, else a float.

    Raises:
        BudgetError: ``bad-budget`` if the text is no number.
    """
    for number_type in (int, float):
        try:
            return number_type(word)
        except ValueError:
            continue
    raise BudgetError(
        "bad-budget",
        f"{flag(name)} {word} is no number; give a count such as 64 or a fraction such as 0.3",
    )
