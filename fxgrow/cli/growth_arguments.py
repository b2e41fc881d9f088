"""Options of ``fxgrow grow`` that say how much may grow, where, and how it is searched."""

from typing import Annotated

import typer

GrowStepsOption = Annotated[int, typer.Option(help="growth steps between them, at equal distances")]
NeuronsOption = Annotated[
    str | None,
    typer.Option(
        help="neurons that a growth step may add: a count (64) or a fraction (0.3)",
        show_default="0.3 if nothing else is limited",
    ),
]
ParametersOption = Annotated[str | None, typer.Option(help="parameters that it may add")]
MultiplyAddsOption = Annotated[
    str | None, typer.Option(help="multiply-adds per image that it may add")
]
ActivationMemoryOption = Annotated[
    str | None, typer.Option(help="bytes per image kept for the backward pass that it may add")
]
LatencyOption = Annotated[
    str | None,
    typer.Option(help="time per image that it may add, measured: microseconds or a fraction"),
]
PerWidthOption = Annotated[
    str | None, typer.Option(help="neurons that it may add to every single width")
]
RoundToOption = Annotated[int, typer.Option(help="every width that grows ends at a multiple of it")]
NewCandidatesOption = Annotated[
    int | None,
    typer.Option(help="candidates for new neurons per width", show_default="the method's"),
]
LayersOption = Annotated[
    int,
    typer.Option(
        help="residual layers that a growth step may insert, where they lower the loss most"
    ),
]
AtOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="where layers may go: modules or nodes (layer*.relu)",
        show_default="all",
    ),
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN", help="modules whose widths alone may grow (layer1.*)", show_default="all"
    ),
]
IgnoreOption = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="modules that keep their shapes", show_default="none"),
]
TieOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN", help="widths that grow alike (layer1.*.conv1)", show_default="none"
    ),
]
RadiusOption = Annotated[
    float | None,
    typer.Option(help="radius of the neighbourhood searched", show_default="the method's"),
]
StepMemoryOption = Annotated[
    float | None,
    typer.Option(
        help="bytes that a step over the candidates may keep (2e9); more are searched in groups of widths"
    ),
]
