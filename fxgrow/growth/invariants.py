"""The three promises of emission (DESIGN section 4), checked at every growth.

1. faithful: the emitted model equals the over-grown graph with the unselected candidates switched off;
2. eps -> 0: with eps = 0 it equals the old model;
3. descent: the loss on the growth batches does not rise.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from fxgrow.errors import GrowthError
from fxgrow.growth.objective import Objective
from fxgrow.rewrite import OverGrown

MAX_ROUNDINGS = 2.0**12
"""Rounding errors that a deep network may add up: outputs equal to this many units in the last place are equal."""

MAX_BACKTRACKS = 8


@contextmanager
def full_precision() -> Iterator[None]:
    """No TF32 inside: its products are off by 1e-3, more than what a promise may be broken by.

    By torch's newer switches: reading the older ones (``allow_tf32``) is an error where somebody has set the newer.
    """
    cudnn: Any = torch.backends.cudnn  # torch's stubs do not know all of it
    switches: tuple[Any, ...] = torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn
    before = [one.fp32_precision for one in switches]
    for one in switches:
        one.fp32_precision = "ieee"
    try:
        yield
    finally:
        for one, precision in zip(switches, before, strict=True):
            one.fp32_precision = precision


def relative_error(found: Any, expected: Any) -> float:
    """Largest absolute difference of two outputs over the largest absolute value of the expected one."""
    errors = [
        float((a - b).abs().max() / b.abs().max().clamp(min=torch.finfo(b.dtype).tiny))
        for a, b in zip(tree_leaves(found), tree_leaves(expected), strict=True)
        if isinstance(b, Tensor) and b.is_floating_point() and b.numel()
    ]
    return max(errors, default=0.0)


def rounding_tolerance(output: Any) -> float:
    """What counts as rounding for the dtype of an output."""
    kinds = [
        leaf.dtype
        for leaf in tree_leaves(output)
        if isinstance(leaf, Tensor) and leaf.is_floating_point()
    ]
    return MAX_ROUNDINGS * max(
        (torch.finfo(kind).eps for kind in kinds), default=torch.finfo(torch.float32).eps
    )


def require_close(promise: str, found: Any, expected: Any) -> float:
    """The error of a promise. Raises GrowthError if it is more than rounding; nothing of the caller's has changed."""
    error, bound = relative_error(found, expected), rounding_tolerance(expected)
    if not error <= bound:
        raise GrowthError(
            "broken-promise",
            f"the grown model is not {promise}: its output is off by {error:.1e} (rounding is {bound:.0e})",
        )
    return error


@torch.no_grad()
def backtrack(grown: OverGrown, objective: Objective, before: float) -> int:
    """Halve eps until the loss is not above ``before``; at last set eps to 0.

    Gives back how often eps was halved (``HALVINGS`` + 1: it is 0 now).
    """
    candidates = grown.candidates
    for halvings in range(MAX_BACKTRACKS + 1):
        if objective.mean(grown.graph_module) <= before:
            return halvings
        candidates.split_eps.mul_(0.5)
        candidates.new_eps.mul_(0.5)
    candidates.split_eps.zero_()
    candidates.new_eps.zero_()
    return MAX_BACKTRACKS + 1
