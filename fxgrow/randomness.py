"""Random generators: torch's own, seeded for a while; the states of all of them, to go on from."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Seed


@checked
@contextmanager
def seeded(seed: Seed) -> Iterator[None]:
    """Seed torch's CPU and CUDA generators inside the context; restore their state on exit.

    Layers such as dropout draw from these generators, so what runs inside is reproducible.

    Args:
        seed: the seed for every generator.

    Returns:
        A context manager that gives nothing.

    Example:
        >>> import torch
        >>> from fxgrow.training import seeded
        >>> with seeded(0):
        ...     first = torch.rand(3)
        >>> with seeded(0):
        ...     second = torch.rand(3)
        >>> torch.equal(first, second)
        True
    """
    # ``torch.manual_seed`` would also queue a seed for GPUs that nobody has used yet, and nothing
    # could take that back: so CUDA is seeded only if it is in use.
    uses_cuda = torch.cuda.is_initialized()
    devices = range(torch.cuda.device_count()) if uses_cuda else ()
    with torch.random.fork_rng(devices, device_type="cuda"):
        torch.default_generator.manual_seed(seed)
        if uses_cuda:
            torch.cuda.manual_seed_all(seed)
        yield


def random_states() -> dict[str, Any]:
    """The states of the generators that anybody may draw from: torch's, numpy's and Python's.

    Returns:
        Numbers, texts and tensors, for ``set_random_states``.

    Example:
        >>> states = random_states()
        >>> first = torch.rand(3)
        >>> set_random_states(states)
        >>> torch.equal(first, torch.rand(3))
        True
    """
    numpy_state: Any = np.random.get_state(legacy=True)
    kind, words, position, has_gauss, gauss = numpy_state
    version, numbers, next_gauss = random.getstate()
    uses_cuda = torch.cuda.is_initialized()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if uses_cuda else [],
        "numpy": (kind, torch.from_numpy(words.astype(np.int64)), position, has_gauss, gauss),
        "python": (version, torch.tensor(numbers), next_gauss),
    }


def set_random_states(states: Mapping[str, Any]) -> None:
    """Let these generators go on from states that were kept.

    Args:
        states: what ``random_states`` gave; GPUs that are not in use stay as they are.

    Raises:
        LookupError, TypeError, ValueError, RuntimeError: they are no such states.
    """
    kind, words, position, has_gauss, gauss = states["numpy"]
    version, numbers, next_gauss = states["python"]
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_initialized():
        for device, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)
    np.random.set_state((kind, words.numpy().astype(np.uint32), position, has_gauss, gauss))
    random.setstate((version, tuple(numbers.tolist()), next_gauss))


@contextmanager
def kept_random_states() -> Iterator[None]:
    """Let nobody draw inside the context as far as those outside can tell.

    Example:
        >>> with kept_random_states():
        ...     model(inputs)  # may draw from torch, numpy and Python
    """
    states = random_states()
    try:
        yield
    finally:
        set_random_states(states)


@contextmanager
def drawing_apart(seed: int) -> Iterator[None]:
    """Let all generators draw from a seed inside the context, and from where they were after it.

    Args:
        seed: the seed for every generator.

    Example:
        >>> with drawing_apart(rank):
        ...     model(inputs)  # in each process another dropout
    """
    with kept_random_states():
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        yield
