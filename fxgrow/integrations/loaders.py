"""Growth batches out of the loader that a trainer trains with."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from fxgrow.errors import TrainingError
from fxgrow.randomness import random_states, seeded, set_random_states


def growth_loader(loader: Any, seed: int) -> Iterable[Any]:
    """A loader of the same data that leaves the trainer's own, and its random numbers, alone.

    Args:
        loader: a ``DataLoader`` of torch, or of a library's own class on top of it.
        seed: of the order of the examples.

    Returns:
        A loader with the same batch size and collation, in this process.

    Raises:
        TrainingError: ``opaque-loader``: it is no such loader, or it makes its batches by itself.
    """
    size = getattr(loader, "batch_size", None)
    if size is None:  # one that was given a sampler of batches knows it by that
        size = getattr(getattr(loader, "batch_sampler", None), "batch_size", None)
    if not isinstance(loader, DataLoader) or size is None:
        kind = type(loader).__name__
        raise TrainingError(
            "opaque-loader",
            f"growth batches cannot be taken from a {kind} that makes its batches by itself; give "
            "the callback batches=, a function that gives some",
        )
    # Its sampler may know which epoch it is, and its workers cost more than a few batches here.
    is_stream = isinstance(loader.dataset, IterableDataset)
    return DataLoader(
        loader.dataset,
        batch_size=size,
        shuffle=None if is_stream else True,
        collate_fn=loader.collate_fn,
        # Without a generator of its own it would draw from torch's, as the trainer does.
        generator=torch.Generator().manual_seed(seed),
    )


@contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Let growth draw random numbers of its own, and the trainer go on as if it had drawn none.

    Data sets that augment their images draw from the generators that the trainer draws from.

    Args:
        seed: for all of them.

    Example:
        >>> with own_randomness(0):
        ...     grower.step(batches, loss=loss)
    """
    states = random_states()
    random.seed(seed)
    np.random.seed(seed)
    try:
        with seeded(seed):
            yield
    finally:
        set_random_states(states)
