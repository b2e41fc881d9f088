"""One thread per test process: the networks are tiny, threads only fight over the cores, and sums round by their number.

On CI (the variable CI is set) hypothesis draws the same examples every time; elsewhere it goes on searching.
"""

import os
from collections.abc import Iterator

# For child processes too. Where it is missing, Lightning sets it and torch's threads to the number of cores.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from hypothesis import settings

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """A run that is resumed takes the number of threads that it was started with: the next test has one again."""
    yield
    torch.set_num_threads(1)
