"""The three checks of every growth.

1. Faithful: the emitted model equals the over-grown graph with the unselected candidates off.
2. Function-preserving at eps = 0: with every eps at 0 it equals the model before.
3. Descent: the loss on growth batches that no search step has seen does not rise.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from fxgrow.errors import GrowthError
from fxgrow.growth.objective import Objective
from fxgrow.ranks import ALONE, Ranks
from fxgrow.rewrite import OverGrown

MAX_ROUNDINGS = 2.0**12
"""Rounding errors that a deep network may add up, in units of the dtype's epsilon."""

MAX_BACKTRACKS = 8
"""How often eps is halved before it is set to 0."""


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute without TF32 inside: its products are off by 1e-3, more than a check allows.

    This uses torch's newer switches, because reading the older ones (``allow_tf32``) is an error
    where somebody has set the newer ones.
    """
    cudnn: Any = torch.backends.cudnn  # torch's stubs do not know all of it
    backends: tuple[Any, ...] = torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def relative_error(output: Any, expected: Any) -> float:
    """The largest absolute difference of two outputs over the largest absolute expected value.

    Args:
        output: tensors in any containers.
        expected: the same containers. Tensors that are empty or hold no floats do not count, nor
            do places where both hold the same infinity, or no number.

    Returns:
        The largest error of all tensors, 0 if none counts.
    """
    largest_error = 0.0
    for one, reference in zip(tree_leaves(output), tree_leaves(expected), strict=True):
        if not is_inexact(reference) or not reference.numel():
            continue
        error = _leaf_error(one, reference)
        if math.isnan(error):  # it would be lost in a maximum
            return error
        largest_error = max(largest_error, error)
    return largest_error


def is_inexact(leaf: Any) -> bool:
    """Whether a value is a tensor of real or complex floating-point numbers."""
    return isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex())


def _leaf_error(output: Tensor, expected: Tensor) -> float:
    # A masked score is minus infinity in both, whose difference would be no number.
    same = output.eq(expected) | (output.isnan() & expected.isnan())
    difference = (output - expected).abs().masked_fill(same, 0.0)
    smallest = torch.finfo(expected.dtype).tiny  # an output of zeros must not divide by 0
    scale = expected.abs().masked_fill(~expected.isfinite(), 0.0).max().clamp(min=smallest)
    return float(difference.max() / scale)


def rounding_tolerance(output: Any) -> float:
    """The relative error that counts as rounding for the coarsest dtype of an output."""
    epsilons = []
    for leaf in tree_leaves(output):
        if is_inexact(leaf):
            epsilons.append(torch.finfo(leaf.dtype).eps)
    return MAX_ROUNDINGS * max(epsilons, default=torch.finfo(torch.float32).eps)


def agreed_error(error: float, ranks: Ranks) -> float:
    """The largest error of all processes that must go the same way.

    What is computed next differs by the error, and where parameters are sharded all must compute.

    Args:
        error: of this process.
        ranks: those that have parts of the model.
    """
    if ranks.count == 1:
        return error
    largest = ranks.largest(None if math.isnan(error) else error)
    return math.inf if largest is None else largest


def require_close(
    check: str, output: Any, expected: Any, allowed: float = 0.0, ranks: Ranks = ALONE
) -> float:
    """Compare two outputs.

    Args:
        check: what the grown model is said to be, as in "the grown model is not ...".
        output: of the grown model.
        expected: the output that it must have.
        allowed: a relative error that is excused, where that is more than rounding.
        ranks: the processes that have parts of the model.

    Returns:
        The relative error.

    Raises:
        GrowthError: ``broken-promise``, if the error is more than rounding.
    """
    error = agreed_error(relative_error(output, expected), ranks)
    tolerance = max(rounding_tolerance(expected), allowed)
    if not error <= tolerance:
        raise GrowthError(
            "broken-promise",
            f"the grown model is not {check}: its output is off by {error:.1e} "
            f"(rounding is {tolerance:.0e})",
        )
    return error


@torch.no_grad()
def backtrack(overgrown: OverGrown, objective: Objective, loss_before: float) -> int:
    """Halve eps until the loss is not above ``loss_before``; in the end set eps to 0.

    Args:
        overgrown: the graph whose candidates are shortened in place.
        objective: the loss on the growth batches.
        loss_before: the loss that must not be exceeded.

    Returns:
        How often eps was halved; ``MAX_BACKTRACKS`` + 1 if it is 0 now.
    """
    candidates = overgrown.candidates
    for halvings in range(MAX_BACKTRACKS + 1):
        if objective.mean(overgrown.graph_module) <= loss_before:
            return halvings
        candidates.split_eps.mul_(0.5)
        candidates.new_eps.mul_(0.5)
    candidates.split_eps.zero_()
    candidates.new_eps.zero_()
    return MAX_BACKTRACKS + 1
