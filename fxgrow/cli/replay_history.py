"""``fxgrow replay``: the grown architecture again, from the first one and the history alone."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fxgrow.cli.arguments import DirectoryArgument
from fxgrow.cli.console import print_parts
from fxgrow.documents import CONFIG
from fxgrow.errors import SpecError
from fxgrow.growth import replay
from fxgrow.spec import (
    ArchitectureSpec,
    GrowthStep,
    check_for_architecture,
    read_spec,
    steps_between,
    write_architecture,
)
from fxgrow.training import INITIAL

FirstSpecOption = Annotated[
    Path | None,
    typer.Option(
        "--from", metavar="DIR", help="where the history began", show_default="DIR/initial"
    ),
]
ReplayPathOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="write the architecture there, without weights",
        show_default=False,
    ),
]

Force = Annotated[
    bool, typer.Option("--force", help="replace an earlier architecture without weights in --out")
]


def replay_history(
    directory: DirectoryArgument,
    first: FirstSpecOption = None,
    out: ReplayPathOption = None,
    force: Force = False,
) -> None:
    """Rebuild the architecture in DIR from its first one and its history, and prove it by the fingerprints."""
    if out is not None:
        _check_out(out, force)
    begun = first or directory / INITIAL
    start, grown = read_spec(begun), read_spec(directory)
    specs = replay(start, _steps(start, grown, str(begun)))
    found = specs[-1] if specs else start
    if found.fingerprint != grown.fingerprint:
        raise SpecError(
            "not-replayable",
            f"the history leads to {found.fingerprint[:12]}, not to {grown.fingerprint[:12]}; it was changed after the "
            "model was saved, save the model again",
            str(directory),
        )
    if out is not None:
        write_architecture(out, found)
    print_parts(
        *(Text(line) for line in _lines(start, specs)),
        *([Text(f"written to {out}")] if out else []),
    )


def _check_out(out: Path, force: bool) -> None:
    check_for_architecture(out)
    if (out / CONFIG).exists() and not force:
        raise SpecError(
            "path-exists",
            "it holds an architecture, which is kept; choose another or say --force",
            str(out),
        )


def _steps(start: ArchitectureSpec, grown: ArchitectureSpec, path: str) -> tuple[GrowthStep, ...]:
    steps, forward = steps_between(start, grown)
    if not (steps and forward) and start.fingerprint != grown.fingerprint:
        raise SpecError(
            "not-replayable",
            f"the history does not begin at {start.fingerprint[:12]}; say --from another",
            path,
        )
    return steps


def _lines(start: ArchitectureSpec, specs: tuple[ArchitectureSpec, ...]) -> tuple[str, ...]:
    rows = [f"{number}: {spec.fingerprint}" for number, spec in enumerate((start, *specs))]
    return (*rows, "the replayed architecture is the saved one")
