"""``fxgrow deepen``: make lists of blocks of a model longer, in its own class."""

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.text import Text

from fxgrow.cli.arguments import AsJsonOption, ForceOption, ModelReference, SeedOption, find_named
from fxgrow.cli.bigger_model import BiggerPath, WeightsOption, take_weights, write_bigger
from fxgrow.cli.console import print_parts, print_text
from fxgrow.cli.model_and_data import load_model
from fxgrow.documents import limits
from fxgrow.errors import GrowthError
from fxgrow.growth import Deepened, deepen
from fxgrow.report import deepening_lines, deepening_table
from fxgrow.training import run_directory

# What each value does, in the words of the help.
_WAYS = {
    "copied": "copies that start as the identity",
    "new": "the same, with matrices drawn anew",
    "stack": "all blocks once more at the end (another function)",
    "middle": "the middle blocks twice (another function)",
}
_PLACES = {"end": "behind all others", "spread": "evenly among them"}

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


def deepen_model(
    model: ModelReference,
    blocks: BlocksOption,
    out: BiggerPath,
    how: HowOption = "copied",
    where: WhereOption = "end",
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
    counts = _counts(blocks)
    with run_directory(out, replace=force) as staging:
        small = take_weights(load_model(model, seed=seed), weights)
        deeper = deepen(
            small.model,
            counts,
            small.example_inputs,
            how=how,  # type: ignore[arg-type]
            where=where,  # type: ignore[arg-type]
            seed=seed,
            history=small.history,
        )
        write_bigger(deeper, staging)
    if as_json:
        print_text(json.dumps(_to_record(deeper), indent=2))
        return
    print_parts(deepening_table(deeper), *deepening_lines(deeper), Text(f"written to {out}"))


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
        "exact": deeper.exact,
        "config": dict(deeper.config.fields) if deeper.config else {},
        "preservation_error": deeper.preservation_error,
        "unchecked": deeper.unchecked,
    }
