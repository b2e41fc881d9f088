"""``fxgrow export``: a saved model in another form."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fxgrow.cli.arguments import DirectoryArgument
from fxgrow.cli.console import print_parts
from fxgrow.export import FORMATS, Exported, Options, export
from fxgrow.report import count_text

FormatOption = Annotated[
    str, typer.Option("--to", help=f"one of {', '.join(FORMATS)}", show_default=False)
]
ExportPathOption = Annotated[
    Path,
    typer.Option("--out", help="the file (for hub the directory) to write", show_default=False),
]
ReplaceExportOption = Annotated[
    bool, typer.Option("--force", help="replace a file, or an earlier hub directory")
]
BatchAxisOption = Annotated[
    bool | None,
    typer.Option(
        "--dynamic-batch/--fixed-batch",
        help="onnx, pt2: insist on batches of any size, or on the saved one (default: any size if the graph allows it)",
        show_default=False,
    ),
]
LicenseOption = Annotated[str, typer.Option("--license", help="hub: the license in the model card")]


def export_model(
    directory: DirectoryArgument,
    to: FormatOption,
    out: ExportPathOption,
    force: ReplaceExportOption = False,
    dynamic_batch: BatchAxisOption = None,
    license_: LicenseOption = "unknown",
) -> None:
    """Write a saved model as ONNX, torch.export archive, hub directory, Python source or picture, and check it."""
    options = Options(dynamic_batch=dynamic_batch, license=license_)
    print_parts(Text(_line(export(directory, to, out, force=force, options=options))))


def _line(done: Exported) -> str:
    error = done.check.error
    apart = (
        ""
        if error is None
        else f"; off by {error:.1e} of the largest output"
        if error
        else "; no bit differs"
    )
    return f"wrote {done.path} ({done.format}, {count_text(done.size)} bytes): {done.check.words}{apart}"
