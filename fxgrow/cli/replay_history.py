"""``fxgrow replay``: rebuild a grown architecture from its first one and its history alone."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fxgrow.cli.arguments import DirectoryArgument, require_used
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

# Fingerprints are shown by their first characters, as git shows its own.
_SHOWN_CHARACTERS = 12

FirstSpecOption = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="DIR",
        help="directory of the architecture that the history starts from",
        show_default="DIR/initial",
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

ForceArchitectureOption = Annotated[
    bool, typer.Option("--force", help="replace an earlier architecture without weights in --out")
]


def replay_history(
    ctx: typer.Context,
    directory: DirectoryArgument,
    first: FirstSpecOption = None,
    out: ReplayPathOption = None,
    force: ForceArchitectureOption = False,
) -> None:
    """Rebuild the architecture in DIR from its first one and its history; compare fingerprints."""
    require_used(ctx, ("force",), out is not None, "--out")
    if out is not None:
        _check_out(out, force)
    start_directory = first or directory / INITIAL
    start, saved = read_spec(start_directory), read_spec(directory)
    replayed = replay(start, _steps(start, saved, str(start_directory)))
    last = replayed[-1] if replayed else start
    if last.fingerprint != saved.fingerprint:
        raise SpecError(
            "not-replayable",
            f"the history leads to {last.fingerprint[:_SHOWN_CHARACTERS]}, not to "
            f"{saved.fingerprint[:_SHOWN_CHARACTERS]}; it was changed after the model was saved, "
            "save the model again",
            str(directory),
        )
    if out is not None:
        write_architecture(out, last)
    _print_fingerprints((start, *replayed), out)


def _check_out(out: Path, force: bool) -> None:
    """Check, before any work is done, that the architecture may be written."""
    check_for_architecture(out)
    if (out / CONFIG).exists() and not force:
        raise SpecError(
            "path-exists",
            "it holds an architecture, which is kept; choose another or say --force",
            str(out),
        )


def _steps(start: ArchitectureSpec, saved: ArchitectureSpec, path: str) -> tuple[GrowthStep, ...]:
    """The growth steps that lead from one architecture to the other."""
    steps, forward = steps_between(start, saved)
    # No step is right if both are the same architecture; steps must not lead from saved to start.
    if not (steps and forward) and start.fingerprint != saved.fingerprint:
        raise SpecError(
            "not-replayable",
            f"the history does not begin at {start.fingerprint[:_SHOWN_CHARACTERS]}; say --from "
            "another",
            path,
        )
    return steps


def _print_fingerprints(specs: tuple[ArchitectureSpec, ...], out: Path | None) -> None:
    for number, spec in enumerate(specs):
        print_parts(Text(f"{number}: {spec.fingerprint}"))
    print_parts(Text("the replayed architecture is the saved one"))
    if out is not None:
        print_parts(Text(f"written to {out}"))
