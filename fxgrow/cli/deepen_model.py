"""``fxgrow deepen``: make lists of blocks of a model longer, in its own class."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text
from torch import Tensor
from torch.nn import functional

from fxgrow.cli.arguments import (
    AsJsonOption,
    DataRootOption,
    ForceOption,
    ModelReference,
    SeedOption,
    build_settings,
    find_named,
    parse_amount,
    require_used,
)
from fxgrow.cli.bigger_model import BiggerPath, WeightsOption, take_weights, write_bigger
from fxgrow.cli.console import print_parts, print_text
from fxgrow.cli.model_and_data import ModelAndData, load_model, load_model_and_data
from fxgrow.cli.trust import TRUST_TYPED
from fxgrow.data import SOURCES, batches
from fxgrow.documents import limits
from fxgrow.errors import ArgumentError, GrowthError
from fxgrow.growth import Budget, Deepened, deepen
from fxgrow.report import deepening_lines, deepening_table
from fxgrow.training import DataChoice, logits, run_directory

# What each value does, in the words of the help.
_WAYS = {
    "copied": "copies that start as the identity",
    "new": "the same, with matrices drawn anew",
    "stack": "all blocks once more at the end (another function)",
    "middle": "the middle blocks twice (another function)",
}
_PLACES = {
    "end": "behind all others",
    "spread": "evenly among them",
    "gain": "behind those blocks where one step on --data would lower the loss most",
}
_SCORED_BATCH = 64
"""Images that are scored at a time; how many they are changes nothing but the memory."""

BlocksOption = Annotated[
    list[str],
    typer.Option(
        "--blocks",
        metavar="PATH=COUNT",
        help="a list of blocks of the model (model.layers, encoder.layers, layer3), and how many "
        "it gets; may be given several times",
        show_default=False,
    ),
]
HowOption = Annotated[
    str,
    typer.Option(
        "--how",
        metavar="NAME",
        help="what new blocks are: " + ", ".join(f"{way}: {what}" for way, what in _WAYS.items()),
    ),
]
WhereOption = Annotated[
    str,
    typer.Option(
        "--where",
        metavar="NAME",
        help="where copies that start as the identity lie: "
        + ", ".join(f"{place}: {what}" for place, what in _PLACES.items()),
    ),
]
ScoringDataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="NAME",
        help=f"the data set of --where gain: {', '.join(SOURCES)}",
        show_default="none",
    ),
]
ScoringLimitOption = Annotated[
    int, typer.Option("--limit", help="number of training images that --where gain looks at")
]
AddedParametersOption = Annotated[
    str | None,
    typer.Option(
        help="parameters that --where gain may add: a count (5000) or a fraction (0.2); numbers of "
        "blocks are then the most that each list gets",
        show_default="any number",
    ),
]


def deepen_model(
    ctx: typer.Context,
    model: ModelReference,
    blocks: BlocksOption,
    out: BiggerPath,
    how: HowOption = "copied",
    where: WhereOption = "end",
    data: ScoringDataOption = None,
    data_root: DataRootOption = None,
    limit: ScoringLimitOption = 256,
    parameters: AddedParametersOption = None,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: AsJsonOption = False,
) -> None:
    """Write MODEL with more blocks of its own kind, which start as the identity.

    A model of transformers is written by its save_pretrained, any other one as a spec directory.
    """
    find_named("how", how, _WAYS)
    find_named("where", where, _PLACES)
    require_used(ctx, _ONLY_BY_GAIN, where == "gain", "--where gain")
    options: dict[str, Any] = {"how": how, "where": where, "seed": seed}
    options["budget"] = _budget(parameters)
    # Wrong options are told before anything is made.
    counts, choice = _counts(blocks), _data_choice(where, data, data_root, limit)
    with run_directory(out, replace=force) as staging:
        small = _loaded(model, choice, seed, options)
        small = take_weights(small, weights)
        options["history"] = small.history
        deeper = deepen(small.model, counts, small.example_inputs, **options)
        write_bigger(deeper, staging)
    if as_json:
        print_text(json.dumps(_to_record(deeper), indent=2))
        return
    print_parts(deepening_table(deeper), *deepening_lines(deeper), Text(f"written to {out}"))


_ONLY_BY_GAIN = ("data", "data_root", "limit", "parameters")


def _budget(parameters: str | None) -> Budget | None:
    if parameters is None:
        return None
    return Budget.model_validate({"parameters": parse_amount("parameters", parameters)})


def _data_choice(
    where: str, data: str | None, data_root: Path | None, limit: int
) -> DataChoice | None:
    """The images that blocks are scored on; None if they are not."""
    if where != "gain":
        return None
    if data is None:
        raise ArgumentError(
            "unused-option",
            "--where gain has no effect without --data; name a data set, or say --where spread",
        )
    return build_settings(DataChoice, name=data, root=data_root, limit=limit)


def _loaded(
    reference: str, choice: DataChoice | None, seed: int, options: dict[str, Any]
) -> ModelAndData:
    """The model; if its blocks are to be scored, the batches and the loss join the options."""
    if choice is None:
        return load_model(reference, seed=seed)
    small, splits = load_model_and_data(reference, choice, seed=seed, trust=TRUST_TYPED)
    options["batches"] = list(batches(splits.train, _SCORED_BATCH))
    options["loss_fn"] = _cross_entropy
    return small


def _cross_entropy(output: Any, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits(output), labels)


def _counts(words: Sequence[str]) -> dict[str, int]:
    """How many blocks each list gets."""
    counts: dict[str, int] = {}
    for word in words:
        path, _, count = word.rpartition("=")
        # A model that is a list itself has the empty path.
        is_count = re.fullmatch(r"[0-9]{1,9}", count) is not None and "=" in word
        if not is_count or int(count) > limits.BLOCKS:
            raise GrowthError(
                "bad-blocks",
                f"--blocks {word[:80]!r} names no list and number of blocks; give the path of a "
                f"list, = and a number up to {limits.BLOCKS}, as in model.layers=2",
            )
        counts[path] = counts.get(path, 0) + int(count)
    return counts


def _to_record(deeper: Deepened) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "new_blocks": dict(deeper.new_blocks),
        "renamed": dict(deeper.renamed),
        "zeroed": dict(deeper.zeroed),
        "gains": dict(deeper.gains),
        "exact": deeper.exact,
        "config": dict(deeper.config.fields) if deeper.config else {},
        "preservation_error": deeper.preservation_error,
        "unchecked": deeper.unchecked,
    }
