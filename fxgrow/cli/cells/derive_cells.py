"""``fxgrow cells derive``: derive the cells of a finished firefly search again, by other rules."""

from pathlib import Path
from typing import Annotated

import typer

from fxgrow.cells import Derivation, FireflySearch, derive_again, genotype_text, read_search
from fxgrow.cli.arguments import ForceFile, build_settings, require_used
from fxgrow.cli.console import print_text
from fxgrow.documents import FILE_OUTPUT, atomic_path, foreign_file, is_genotype, os_errors_as
from fxgrow.training import SEARCHED

_DEFAULTS = FireflySearch().derivation
_IS_FOREIGN = foreign_file(is_genotype)

# The first name of an option is that of the setting; the second one is kept for old scripts.
IdentityThresholdOption = Annotated[
    float,
    typer.Option(
        "--identity-threshold",
        "--little",
        help="an edge whose channels grew by no more than this fraction becomes the identity",
    ),
]
NormalizeByOperationOption = Annotated[
    bool,
    typer.Option(
        "--normalize-by-operation/--no-normalize-by-operation",
        "--against-average/--no-against-average",
        help="measure the growth of an operation against the average of the same operation "
        "elsewhere, not against what it started with",
    ),
]


def derive_cells(
    ctx: typer.Context,
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="the directory of a finished search", show_default=False
        ),
    ],
    identity_threshold: IdentityThresholdOption = _DEFAULTS.identity_threshold,
    keep_all: Annotated[
        bool, typer.Option("--keep-all", help="keep every incoming edge, not the two strongest")
    ] = False,
    normalize_by_operation: NormalizeByOperationOption = _DEFAULTS.normalize_by_operation,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="write the genotype as JSON", show_default="print it"
        ),
    ] = None,
    force: ForceFile = False,
) -> None:
    """Derive a genotype from the numbers of channels that a firefly search ended with."""
    require_used(ctx, ("force",), out is not None, "--out")
    derivation = build_settings(
        Derivation,
        identity_threshold=identity_threshold,
        keep_all=keep_all,
        normalize_by_operation=normalize_by_operation,
    )
    if out is None:
        print_text(_derive_text(directory, derivation).rstrip("\n"))
        return
    with atomic_path(out, FILE_OUTPUT, _IS_FOREIGN, force=force, parents=False) as staging:
        text = _derive_text(directory, derivation)
        # Only errors of writing are about ``out``; those of reading name their own file.
        with os_errors_as(out, FILE_OUTPUT):
            staging.write_text(text, encoding="utf-8")
    print_text(str(out))


def _derive_text(directory: Path, derivation: Derivation) -> str:
    return genotype_text(derive_again(read_search(directory / SEARCHED), derivation))
