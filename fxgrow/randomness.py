"""Torch's own random numbers, on the processor and on GPUs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """They start from ``seed`` inside (dropout draws from them) and go on as before outside.

    ``torch.manual_seed`` would also seed GPUs that nobody uses yet, and nothing could take that back.
    """
    used = torch.cuda.is_initialized()
    devices = range(torch.cuda.device_count()) if used else ()
    with torch.random.fork_rng(devices, device_type="cuda"):
        torch.default_generator.manual_seed(seed)
        if used:
            torch.cuda.manual_seed_all(seed)
        yield
