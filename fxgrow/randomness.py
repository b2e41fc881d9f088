"""Torch's own random generators, on the CPU and on GPUs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fxgrow.argument_checks import Seed, checked


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
