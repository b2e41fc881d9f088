"""``pt2``: a ``torch.export`` archive, for C++ and Python without the model's source."""

from pathlib import Path

import torch

from fxgrow.export.compare import check_outputs
from fxgrow.export.format import Check, Options
from fxgrow.export.source_model import ExportSource, example_tensors
from fxgrow.export.torch_export import export_model, largest_error

# The same kernels run, but torch.export may write an operation in another form.
_TOLERANCE = 1e-5


def write_pt2(subject: ExportSource, path: Path, options: Options) -> Check:
    """Save an exported program, load it back and compare. Raises ``ExportError``: not-exportable, export-differs."""
    found = export_model(subject, options.dynamic_batch)
    with path.open("wb") as file:
        torch.export.save(found.program, file)
    with path.open("rb") as file:
        module = torch.export.load(file).module()
    with torch.no_grad():
        error = largest_error(
            subject,
            found.trials,
            lambda inputs: example_tensors(module(*(each.clone() for each in inputs))),
        )
    check_outputs(error, _TOLERANCE, "the loaded program")
    return Check(f"takes {found.batch}; loaded back and compared", error)
