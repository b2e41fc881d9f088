"""``fxgrow extend``: give a model more words, more classes, or more experts."""

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.text import Text

from fxgrow.cli.arguments import (
    AsJsonOption,
    ForceOption,
    ModelReference,
    SeedOption,
    find_named,
    require_used,
)
from fxgrow.cli.bigger_model import BiggerPath, WeightsOption, take_weights, write_bigger
from fxgrow.cli.console import print_parts, print_text
from fxgrow.cli.model_and_data import load_model
from fxgrow.errors import ArgumentError
from fxgrow.growth import Extended, grow_classes, grow_experts, grow_vocabulary
from fxgrow.report import extension_lines
from fxgrow.training import run_directory

_ROWS = {"mean": "the mean of the old ones", "new": "drawn with their spread"}
# What grows, and the argument that says where it is; a config says where experts are.
_KINDS: dict[str, tuple[Callable[..., Extended], str | None]] = {
    "words": (grow_vocabulary, "embedding"),
    "classes": (grow_classes, "head"),
    "experts": (grow_experts, None),
}

WordsOption = Annotated[
    int | None,
    typer.Option(help="how many words more a language model gets", show_default="none"),
]
NewClassesOption = Annotated[
    int | None,
    typer.Option(help="how many classes more a classifier gets", show_default="none"),
]
ExpertsOption = Annotated[
    int | None,
    typer.Option(
        help="how many times as many experts a mixture of transformers gets (2)",
        show_default="none",
    ),
]
WhereRowsOption = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="PATH",
        help="the embedding of the words, or the layer that gives the class scores",
        show_default="found",
    ),
]
HowRowsOption = Annotated[
    str,
    typer.Option(
        "--how",
        metavar="NAME",
        help="what a new row is: " + ", ".join(f"{way}: {what}" for way, what in _ROWS.items()),
    ),
]


def extend_model(
    ctx: typer.Context,
    model: ModelReference,
    out: BiggerPath,
    words: WordsOption = None,
    classes: NewClassesOption = None,
    experts: ExpertsOption = None,
    at: WhereRowsOption = None,
    how: HowRowsOption = "mean",
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: AsJsonOption = False,
) -> None:
    """Write MODEL with more words, classes or experts; what it gave before stays.

    A model of transformers is written by its save_pretrained, any other one as a spec directory.
    """
    find_named("how", how, _ROWS)
    asked = {"words": words, "classes": classes, "experts": experts}
    given = {kind: count for kind, count in asked.items() if count is not None}
    if len(given) != 1:
        raise ArgumentError(
            "bad-setting",
            f"fxgrow extend was given {len(given)} of --words, --classes and --experts, and gives "
            "a model more of one at a time; say one of them",
        )
    ((kind, count),) = given.items()
    grow, place = _KINDS[kind]
    options = _options(ctx, place, at, how, seed)
    with run_directory(out, replace=force) as staging:
        small = take_weights(load_model(model, seed=seed), weights)
        inputs = small.example_inputs
        extended = grow(small.model, count, inputs, **options)
        write_bigger(extended, staging)
    if as_json:
        print_text(json.dumps(_to_record(extended), indent=2))
        return
    print_parts(*extension_lines(extended), Text(f"written to {out}"))


def _options(
    ctx: typer.Context, place: str | None, at: str | None, how: str, seed: int
) -> dict[str, Any]:
    """The arguments of the function beside the model, how many, and its inputs."""
    require_used(ctx, ("at", "how"), place is not None, "--words or --classes")
    return {"seed": seed} if place is None else {"seed": seed, "how": how, place: at}


def _to_record(extended: Extended) -> dict[str, Any]:
    """What ``--json`` prints."""
    config = {} if extended.config is None else extended.config.fields
    return {
        "rows": dict(extended.rows),
        "config": {name: _plain(value) for name, value in config.items()},
        "preservation_error": extended.preservation_error,
    }


def _plain(value: Any) -> Any:
    return dict(value) if hasattr(value, "items") else value
