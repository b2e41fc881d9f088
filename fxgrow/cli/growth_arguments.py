"""Options of ``fxgrow grow``: how much may grow, where, and how the search is done."""

from typing import Annotated

import typer

from fxgrow.cli.arguments import DEFAULT_NEURONS
from fxgrow.methods import METHODS
from fxgrow.surgery import STATE_NAMES
from fxgrow.training import TRIGGERS

EpochsOption = Annotated[int, typer.Option(help="epochs of training in all")]
GrowStepsOption = Annotated[
    int, typer.Option(help="growth steps, at equal distances between the epochs")
]
GrowWhenOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="the trigger, with its settings if wanted ('OnPlateau?patience=2&min_delta=0.01'): "
        f"{', '.join(TRIGGERS)}; --grow-steps is then the largest number",
    ),
]
# Limits of one growth step: each is a count or a fraction of what the model has.
NeuronsOption = Annotated[
    str | None,
    typer.Option(
        help="neurons that a growth step may add: a count (64) or a fraction (0.3)",
        show_default=f"{DEFAULT_NEURONS} if nothing else is limited",
    ),
]
ParametersOption = Annotated[str | None, typer.Option(help="parameters that it may add")]
MultiplyAddsOption = Annotated[
    str | None, typer.Option(help="multiply-adds per image that it may add")
]
ActivationMemoryOption = Annotated[
    str | None,
    typer.Option(help="bytes per image, kept for the backward pass, that it may add"),
]
LatencyOption = Annotated[
    str | None,
    typer.Option(help="measured time per image that it may add: microseconds or a fraction"),
]
PerWidthOption = Annotated[
    str | None, typer.Option(help="neurons that it may add to each single width")
]
RoundToOption = Annotated[int, typer.Option(help="every width that grows ends at a multiple of it")]

# The method: what is searched.
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="NAME",
        help=f"how to choose what grows: {', '.join(METHODS)}, or one that a package declares",
        show_default="Auto, or Firefly if one of its settings is given",
    ),
]
NewCandidatesOption = Annotated[
    int | None,
    typer.Option(help="candidates for new neurons per width", show_default="the method's"),
]
LayersOption = Annotated[
    str,
    typer.Option(
        metavar="COUNT | block:PATTERN[=COUNT]",
        help="residual layers that a growth step may insert, where they lower the loss most; or "
        "lists of blocks that may get longer by copies of their blocks (block:layer3, "
        "block:layer*=2), beside neurons and from the same budget",
    ),
]
AtOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="modules or nodes that layers may be inserted after (layer*.relu)",
        show_default="all",
    ),
]
RadiusOption = Annotated[
    float | None,
    typer.Option(
        help="radius of the neighborhood of the model that is searched",
        show_default="the method's",
    ),
]
StateOption = Annotated[
    str,
    typer.Option(
        metavar="RULE",
        help="what becomes of the optimizer's moments when the model grows: "
        f"{', '.join(STATE_NAMES)}",
    ),
]
StepMemoryOption = Annotated[
    float | None,
    typer.Option(
        # The first name is that of the setting; the second one is kept for old scripts.
        "--memory-limit",
        "--memory",
        help="bytes that one step over the candidates may keep (2e9); if they need more, the "
        "widths are searched in groups",
    ),
]

AcceptNoGainOption = Annotated[
    bool,
    typer.Option(
        "--accept-no-gain",
        help="grow even where nothing that was found lowers the loss; else that step is left out",
    ),
]

# The scope: which widths may grow.
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="grow only the widths of these modules (layer1.*)",
        show_default="all",
    ),
]
IgnoreOption = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="modules that keep their shapes", show_default="none"),
]
TieOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="widths that grow alike, neuron by neuron (layer1.*.conv1)",
        show_default="none",
    ),
]
ExpressibleOption = Annotated[
    bool,
    typer.Option(
        "--expressible",
        help="of a Hugging Face model, grow only what its config can describe, alike in all layers",
    ),
]
ModelSizeOption = Annotated[
    int | None,
    typer.Option(
        "--size",
        help="height and width of the images in pixels",
        show_default="what the model takes, or 32",
    ),
]
