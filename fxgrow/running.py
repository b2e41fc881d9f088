"""Running what a caller brought: a failure of their model, loss or data is one sentence to them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from fxgrow.errors import DataError, FxgrowError

CALLED_CODE_ERRORS = (
    RuntimeError,
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
)
"""What code may raise that does not fit what it is given; an internal error of torch is a
RuntimeError."""
_SHOWN = 300


@contextmanager
def errors_as(error: type[FxgrowError], code: str, what: str, advice: str) -> Iterator[None]:
    """Turn what code of the caller's raises inside into an error with a sentence.

    Args:
        error: its class.
        code: its code.
        what: what failed ("Linear does not run on a batch").
        advice: what to do.

    Returns:
        A context manager that gives nothing.

    Raises:
        FxgrowError: as ``error``, with the first words of the original one, which is its cause.
    """
    try:
        yield
    except FxgrowError:  # says by itself what is wrong
        raise
    except CALLED_CODE_ERRORS as cause:
        reason = " ".join(str(cause).split())[:_SHOWN] or type(cause).__name__
        raise error(code, f"{what} ({reason}); {advice}") from cause


def input_target_pairs(batches: Iterable[Any]) -> Iterator[tuple[Any, Tensor]]:
    """The batches, each checked to be an input and a target tensor.

    Args:
        batches: what a caller gave.

    Yields:
        Pairs of an input and a target.

    Raises:
        DataError: ``bad-batch`` for anything else.
    """
    with errors_as(DataError, "bad-batch", "the batches cannot be iterated over", "give a list"):
        iterator = iter(batches)
    for number, batch in enumerate(iterator):
        is_pair = isinstance(batch, (tuple, list)) and len(batch) == 2
        if not is_pair or not isinstance(batch[1], Tensor) or not batch[1].dim():
            raise DataError(
                "bad-batch",
                f"batch {number} is a value of type {type(batch).__name__} and no pair of an input "
                "and a tensor with a target for each example; give (input, target)",
            )
        yield batch[0], batch[1]
