"""How much memory there is, and refusing what would not fit before any of it is taken."""

import os
from pathlib import Path

import torch

from fxgrow.errors import FxgrowError

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""The file in which Linux keeps the memory limit of a container; ``max`` means no limit."""


def available_memory(device: torch.device | None = None) -> int:
    """Return the bytes of memory that a device has in total.

    Args:
        device: None, and every device but CUDA's: this machine, or the container around us.

    """
    if device is not None and device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = CGROUP_LIMIT.read_text(encoding="ascii").strip()
    except OSError:
        return machine
    return min(machine, int(limit)) if limit.isdecimal() else machine


def require_memory(
    needed: int,
    what: str,
    advice: str,
    error: type[FxgrowError],
    device: torch.device | None = None,
) -> None:
    """Check that so many bytes can be taken.

    Args:
        needed: bytes.
        what: the plural of what needs them, for the message.
        advice: how to need less.
        error: the class of the error.
        device: where they are taken; None: in this machine's memory.

    Raises:
        FxgrowError: ``too-large``, as ``error``.

    """
    available = available_memory(device)
    if needed > available:
        raise error(
            "too-large",
            f"{what} need {needed} bytes of memory and there are {available}; {advice}",
        )
