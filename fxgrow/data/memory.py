"""Whether images fit into memory, asked before any is made."""

import os
from pathlib import Path

from fxgrow.errors import DataError

_VALUE_BYTES = 4
"""Of a float32."""
_COPIES = 4
"""So many times all images are held at once while they are drawn, resized and normalised."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Where Linux says how much a container may take; the word ``max`` if there is no limit."""


def check_memory(what: str, count: int, channels: int, size: int) -> None:
    """Raises ``DataError`` (``too-large``) unless ``count`` images of ``channels`` x ``size`` x ``size`` fit."""
    needed, there = count * channels * size * size * _VALUE_BYTES * _COPIES, available_memory()
    if needed > there:
        raise DataError(
            "too-large",
            f"{count} {what} of {channels} x {size} x {size} need {needed} bytes of memory and there are {there}; "
            "take fewer or smaller images",
        )


def available_memory() -> int:
    """The bytes of memory that this machine or container has."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = CGROUP_LIMIT.read_text(encoding="ascii").strip()
    except OSError:
        return machine
    return min(machine, int(limit)) if limit.isdecimal() else machine
