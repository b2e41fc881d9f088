"""``fxgrow export``: write a saved model in another format."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fxgrow.cli.arguments import DirectoryArgument
from fxgrow.cli.console import print_parts
from fxgrow.export import FORMATS, Exported, Options, export
from fxgrow.report import count_text

FormatOption = Annotated[
    str, typer.Option("--to", help=f"the format: {', '.join(FORMATS)}", show_default=False)
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
        help="onnx, pt2: require batches of any size, or the saved batch size "
        "(default: any size if the graph allows it)",
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
    """Write a saved model in another format, and check that it computes the same.

    Formats are ONNX, torch.export archive, hub directory, Python source and pictures.
    """
    options = Options(dynamic_batch=dynamic_batch, license=license_)
    exported = export(directory, to, out, force=force, options=options)
    print_parts(Text(_summary(exported)))


def _summary(exported: Exported) -> str:
    size = f"{count_text(exported.size)} bytes"
    check = f"{exported.check.words}{_difference(exported.check.error)}"
    return f"wrote {exported.path} ({exported.format}, {size}): {check}"


def _difference(error: float | None) -> str:
    """How far the outputs differ from the model's; None: they were not compared."""
    if error is None:
        return ""
    if error == 0:
        return "; no bit differs"
    return f"; off by {error:.1e} of the largest output"
