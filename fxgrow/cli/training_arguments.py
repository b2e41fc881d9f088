"""Options of ``fxgrow grow``: how it is trained."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from fxgrow.cli.arguments import build_option, build_settings, build_trigger, find_named
from fxgrow.errors import TrainingError
from fxgrow.spec import parse_yaml
from fxgrow.training import (
    RUN_OPTIMIZERS,
    SCHEDULES,
    Augmentation,
    Compilation,
    EarlyStop,
    MovingAverage,
)

OptimizerOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help=f"the optimizer: {', '.join(RUN_OPTIMIZERS)}; adamw wants a smaller --lr, 0.001 say",
    ),
]
ScheduleOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help=f"how the learning rate goes over the whole run: {', '.join(SCHEDULES)}",
    ),
]
WarmupOption = Annotated[
    float, typer.Option(help="epochs in which the learning rate rises to --lr, step by step")
]
LabelSmoothingOption = Annotated[
    float, typer.Option(help="share of the target that goes to all classes alike")
]
AugmentOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="what becomes of training images in every pass (flip=0.5): "
        f"{', '.join(Augmentation.model_fields)}",
        show_default="none",
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="of the passes of training steps: float32, bfloat16, or float16 on GPUs",
    ),
]
EmaOption = Annotated[
    float | None,
    typer.Option(
        metavar="DECAY",
        help="give a moving average of the weights in the end (0.999)",
        show_default="none",
    ),
]
ValidationOption = Annotated[
    float, typer.Option(help="share of the training images that are set aside to measure on")
]
EarlyStopOption = Annotated[
    int | None,
    typer.Option(
        metavar="PATIENCE",
        help="stop when so many epochs pass without a better loss on the images of --validation",
        show_default="never",
    ),
]
CompileOption = Annotated[
    bool, typer.Option("--compile", help="run training steps by torch.compile")
]


def training_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """How a recipe trains, from the options of the command by name.

    Raises:
        TrainingError: ``bad-setting``, about the first option that is wrong.
    """
    optimizer, schedule, warmup = given["optimizer"], given["schedule"], given["warmup"]
    ema, patience = given["ema"], given["early_stop"]
    return {
        "grow_when": build_trigger(given["grow_when"]),
        "optimizer": build_settings(
            find_named("optimizer", optimizer, RUN_OPTIMIZERS), name=optimizer
        ),
        "schedule": build_settings(
            find_named("schedule", schedule, SCHEDULES), name=schedule, warmup=warmup
        ),
        "augmentation": _augmentation(given["augment"] or ()),
        "ema": None if ema is None else build_option("ema", MovingAverage, decay=ema),
        "early_stop": (
            None if patience is None else build_option("early_stop", EarlyStop, patience=patience)
        ),
        "compile": Compilation() if given["compiled"] else None,
    }


def _augmentation(words: Sequence[str]) -> Augmentation:
    values = {}  # of two for the same setting the later one holds
    for word in words:
        name, equals, text = word.partition("=")
        find_named("augment", name, Augmentation.model_fields)
        if not equals:
            raise TrainingError(
                "bad-setting", f"--augment {name} has no value; write NAME=VALUE ({name}=0.5)"
            )
        values[name] = parse_yaml(text)
    return build_option("augment", Augmentation, **values)
