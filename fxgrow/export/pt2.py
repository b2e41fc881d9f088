"""``pt2``: a ``torch.export`` archive, for C++ and Python without the model's source."""

from pathlib import Path

import torch

from fxgrow.export.compare import check
from fxgrow.export.format import Check, Options
from fxgrow.export.program import largest_error, traced
from fxgrow.export.subject import Subject, tensors

# The same kernels run, but torch.export may write an operation in another form.
BOUND = 1e-5


def write(subject: Subject, path: Path, options: Options) -> Check:
    """Save an exported program, load it back and compare. Raises ``ExportError``: not-exportable, export-differs."""
    found = traced(subject, options.dynamic_batch)
    with path.open("wb") as file:
        torch.export.save(found.program, file)
    with path.open("rb") as file:
        module = torch.export.load(file).module()
    with torch.no_grad():
        error = largest_error(subject, found.trials, lambda inputs: tensors(module(*(each.clone() for each in inputs))))
    check(error, BOUND, "the loaded program")
    return Check(f"takes {found.batch}; loaded back and compared", error)
