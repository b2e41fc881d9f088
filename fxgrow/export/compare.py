"""How far two outputs are apart."""

from collections.abc import Iterable
from math import inf

import torch
from torch import Tensor

from fxgrow.errors import ExportError


def max_difference(ours: Iterable[Tensor], theirs: Iterable[Tensor]) -> float:
    """The largest difference of any entry, relative to the largest entry of its tensor; 0 only for equal tensors.

    Infinite if there are more of one, or if shapes, dtypes, or the places of NaN or of infinities differ.
    """
    ours, theirs = list(ours), list(theirs)
    if len(ours) != len(theirs):
        return inf
    return max(
        (_apart(a.detach(), b.detach()) for a, b in zip(ours, theirs, strict=True)), default=0.0
    )


def _apart(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape or a.dtype != b.dtype:
        return inf
    if torch.equal(a, b) or not a.numel():
        return 0.0
    wide = torch.complex128 if a.is_complex() else torch.float64
    a, b = a.to(wide), b.to(wide)
    finite = a.isfinite()
    if not torch.equal(finite, b.isfinite()) or not torch.equal(
        a[~finite].nan_to_num(), b[~finite].nan_to_num()
    ):
        return inf
    a, b = a[finite], b[finite]
    if not a.numel():
        return 0.0
    apart, scale = float((a - b).abs().max()), float(a.abs().max())
    return apart / scale if scale else apart


def check_outputs(error: float, bound: float, what: str) -> float:
    """``error``, if it is within ``bound``; else ``ExportError("export-differs")``."""
    if not error <= bound:
        raise ExportError(
            "export-differs",
            f"{what} differs from the model by {error:.1e} of its largest output, over the bound of {bound:g}, so "
            "nothing was written; export it in another format",
        )
    return error
