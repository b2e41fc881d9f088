"""``pt2``: a ``torch.export`` archive, for C++ and Python without the model's source."""

from pathlib import Path

import torch
from torch import Tensor

from fxgrow.export.compare import check_outputs
from fxgrow.export.format import Check, Options
from fxgrow.export.source_model import ExportSource, cloned, example_tensors
from fxgrow.export.torch_export import exported_model, largest_error

# The same kernels run, but torch.export may write an operation in another form.
_TOLERANCE = 1e-5


def write_pt2(source: ExportSource, path: Path, options: Options) -> Check:
    """Save an exported program, load it back and compare.

    Args:
        source: the model.
        path: the file to write.
        options: ``dynamic_batch`` is used.

    Returns:
        How it was checked.

    Raises:
        ExportError: ``not-exportable``, ``export-differs``.
    """
    exported = exported_model(source, options.dynamic_batch)
    # Through open files: torch expects paths to end in .pt2, and this one may have any name.
    with path.open("wb") as output:
        torch.export.save(exported.program, output)
    with path.open("rb") as archive:
        module = torch.export.load(archive).module()

    def run_loaded(inputs: tuple[Tensor, ...]) -> list[Tensor]:
        return example_tensors(module(*cloned(inputs)))

    with torch.no_grad():
        error = largest_error(source, exported.trials, run_loaded)
    check_outputs(error, _TOLERANCE, "the loaded program")
    return Check(f"takes {exported.batch}; loaded back and compared", error)
