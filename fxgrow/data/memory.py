"""Check that images fit into memory, before any of them is created."""

import os
from pathlib import Path

from fxgrow.errors import DataError

_VALUE_BYTES = 4  # of a float32
# How many copies of all images exist at once while they are drawn, resized and normalized.
_COPIES = 4

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""The file in which Linux keeps the memory limit of a container; ``max`` means no limit."""


def check_memory(what: str, count: int, channels: int, size: int) -> None:
    """Check that ``count`` images of ``channels`` x ``size`` x ``size`` fit into memory.

    Args:
        what: the plural noun for the images in the message ("images", "shapes").
        count: number of images.
        channels: channels of one image.
        size: height and width of one image.

    Raises:
        DataError: ``too-large`` if they do not fit.
    """
    needed = count * channels * size * size * _VALUE_BYTES * _COPIES
    available = available_memory()
    if needed > available:
        raise DataError(
            "too-large",
            f"{count} {what} of {channels} x {size} x {size} need {needed} bytes of memory and "
            f"there are {available}; take fewer or smaller images",
        )


def available_memory() -> int:
    """Return the bytes of memory that this machine, or the container around us, has in total."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = CGROUP_LIMIT.read_text(encoding="ascii").strip()
    except OSError:
        return machine
    return min(machine, int(limit)) if limit.isdecimal() else machine
