"""A group of one process: shards are whole, and everything else is as among several."""

from collections.abc import Iterator
from typing import Any

import pytest
from torch import distributed
from torch._C._distributed_c10d import HashStore
from torch.distributed.device_mesh import init_device_mesh


@pytest.fixture
def mesh() -> Iterator[Any]:
    """A mesh of this process alone."""
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("torch was built without gloo")
    distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        distributed.destroy_process_group()
