"""Torch's own random numbers, on the processor and on GPUs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's CPU and CUDA generators inside the block; restore their state on exit.

    Args:
        seed: where the generators start from, for dropout and initial weights, say.

    Returns:
        A context manager.

    Example:
        >>> with seeded(0):
        ...     layer = nn.Linear(8, 8)

    """
    # torch.manual_seed would also seed GPUs that nobody uses yet, and nothing could take that back.
    used = torch.cuda.is_initialized()
    devices = range(torch.cuda.device_count()) if used else ()
    with torch.random.fork_rng(devices, device_type="cuda"):
        torch.default_generator.manual_seed(seed)
        if used:
            torch.cuda.manual_seed_all(seed)
        yield
