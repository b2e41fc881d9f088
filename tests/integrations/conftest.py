"""What trainers leave behind in a process."""

import os
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _no_process_group() -> Iterator[None]:
    """Lightning makes a process group for one process, too, and its variables are a launch to others."""
    before = dict(os.environ)
    yield
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    os.environ.clear()
    os.environ.update(before)
