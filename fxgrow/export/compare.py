"""How far two outputs are apart."""

from collections.abc import Iterable
from math import inf

import torch
from torch import Tensor

from fxgrow.errors import ExportError


def max_difference(expected: Iterable[Tensor], actual: Iterable[Tensor]) -> float:
    """The largest difference of any entry, relative to the largest entry of its tensor.

    Args:
        expected: the outputs of the model.
        actual: the outputs of the export, in the same order.

    Returns:
        ``max |expected - actual| / max |expected|``, the larger over all tensors: 0 only for equal
        tensors, infinite if their number, shapes, dtypes or the places of NaN or infinities differ.

    Example:
        >>> max_difference([torch.tensor([2.0, 4.0])], [torch.tensor([2.0, 3.0])])
        0.25
    """
    expected, actual = list(expected), list(actual)
    if len(expected) != len(actual):
        return inf
    largest = 0.0
    for wanted, got in zip(expected, actual, strict=True):
        largest = max(largest, _relative_difference(wanted.detach(), got.detach()))
    return largest


def _relative_difference(expected: Tensor, actual: Tensor) -> float:
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return inf
    if torch.equal(expected, actual) or not expected.numel():
        return 0.0
    # In double precision, so that the comparison itself does not round or overflow.
    wide = torch.complex128 if expected.is_complex() else torch.float64
    expected, actual = expected.to(wide), actual.to(wide)
    finite = expected.isfinite()
    if not _same_special_values(expected, actual, finite):
        return inf
    expected, actual = expected[finite], actual[finite]
    if not expected.numel():
        return 0.0
    difference = float((expected - actual).abs().max())
    scale = float(expected.abs().max())
    return difference / scale if scale else difference


def _same_special_values(expected: Tensor, actual: Tensor, finite: Tensor) -> bool:
    """Whether NaN and infinities are at the same places; ``finite`` is the mask of ``expected``."""
    if not torch.equal(finite, actual.isfinite()):
        return False
    # NaN never equals NaN; nan_to_num makes it 0 and an infinity the largest number of its sign.
    return torch.equal(expected[~finite].nan_to_num(), actual[~finite].nan_to_num())


def check_outputs(error: float, bound: float, what: str) -> float:
    """Refuse an export that computes something else than the model.

    Args:
        error: the largest relative difference, as of ``max_difference``; NaN is over any bound.
        bound: the largest difference that is allowed.
        what: what was compared with the model, as the subject of a sentence.

    Returns:
        ``error``, if it is within ``bound``.

    Raises:
        ExportError: ``export-differs``.
    """
    # Not `error > bound`: a comparison with NaN is false, and NaN must be refused.
    if not error <= bound:
        raise ExportError(
            "export-differs",
            f"{what} differs from the model by {error:.1e} of its largest output, over the bound "
            f"of {bound:g}, so nothing was written; export it in another format",
        )
    return error
