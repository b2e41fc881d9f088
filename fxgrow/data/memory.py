"""Check that images fit into memory, before any of them is created."""

from fxgrow.errors import DataError
from fxgrow.memory import require_memory

_VALUE_BYTES = 4  # of a float32
# How many copies of all images exist at once while they are drawn, resized and normalized.
_COPIES = 4


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
    subject = f"{count} {what} of {channels} x {size} x {size}"
    require_memory(needed, subject, "take fewer or smaller images", DataError)
