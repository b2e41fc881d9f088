"""One picture from bytes that anybody may have written: small, coloured, or refused before it is unpacked.

A picture of a few kilobytes may unpack to gigabytes, so its sides are compared with limits first. Pillow also knows
formats that run other programs (EPS) or take time out of all proportion; only those of ``PICTURE_FORMATS`` are tried.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fxgrow.data.files import read_content, shown_path
from fxgrow.errors import DataError
from fxgrow.optional import require

PICTURE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
PICTURE_BYTES = 2**28
"""Of the file."""
_MAX_PIXELS = 2**26
"""Of the picture; the largest one of ImageNet has 61 million."""
_MAX_SIDE = 2**16
FREE_PIXELS = 2**22
PER_BYTE = 1024
"""Pixels of a larger picture that a byte of its file may stand for, so that time is paid for in bytes."""
SCANS = 100
"""Of a progressive JPEG, each of which is a pass over the whole picture; ten are usual."""
FIX = "repair or remove it"

SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
WIDE = ("PNG", "PPM")
"""The formats whose 32 bits (mode I) are 16 in the file."""
_STEP = 257
"""From one of 256 levels to the next among 65,536."""
# What decoders raise on damaged bytes; most of them are written for sound ones.
DAMAGED = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, RuntimeError,
    MemoryError, struct.error, zlib.error,
)  # fmt: skip


def read_picture(path: Path, size: int) -> Tensor:
    """The picture in a file as 3 x size x size bytes, squeezed; of several the first, without its transparency.

    Raises ``DataError`` with the path: a file that is none, too large or damaged.
    """
    data = read_content(path, PICTURE_BYTES, FIX)
    with _decoding(path):
        _check_text(data)
        _check_scans(data)
        for width, height in _sizes(data):
            _check_size(path, width, height)
            _check_share(path, width, height, len(data))
        image = _pillow()
        opened = image.open(io.BytesIO(data), formats=PICTURE_FORMATS)
        width, height = opened.size
        _check_size(path, width, height)
        _check_share(path, width, height, len(data))
        _check_tiles(path, opened)
        small = _coloured(opened).resize((size, size), image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1)


def _pillow() -> Any:
    """Pillow's module of images, which comes with torchvision."""
    require("torchvision", extra="vision", error=DataError)
    return import_module("PIL.Image")


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """What Pillow says on the way is not for the caller, and what it raises is a ``DataError``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DataError:
        raise
    except _pillow().DecompressionBombError as error:
        raise DataError(
            "too-large",
            f"the image {shown_path(path)} has more pixels than are unpacked ({error}); make it smaller or remove it",
        ) from error
    except DAMAGED as error:
        reason = " ".join(shown_path(str(error)).split())[:300] or type(error).__name__
        raise DataError(
            "wrong-format", f"the image {shown_path(path)} cannot be read ({reason}); {FIX}"
        ) from error


def _check_size(path: Path, width: int, height: int) -> None:
    if max(width, height) > _MAX_SIDE or width * height > _MAX_PIXELS:
        raise DataError(
            "too-large",
            f"the image {shown_path(path)} says that it has {width} x {height} pixels, over the limit of {_MAX_PIXELS} and "
            f"{_MAX_SIDE} a side, so it is not unpacked; make it smaller or remove it",
        )
    if min(width, height) < 1:
        raise DataError(
            "wrong-format",
            f"the image {shown_path(path)} has {width} x {height} pixels, so none; {FIX}",
        )


def _check_share(path: Path, width: int, height: int, count: int) -> None:
    if width * height > max(FREE_PIXELS, PER_BYTE * count):
        raise DataError(
            "too-large",
            f"the image {shown_path(path)} says that its {count} bytes are {width} x {height} pixels, over {PER_BYTE} a "
            "byte, so it is not unpacked; make it smaller or remove it",
        )


def _check_text(data: bytes) -> None:
    """Pixels written as decimal numbers: read number by number, and comments between them in quadratic time."""
    if data[:1] == b"P" and data[1:2] in b"123":
        raise ValueError("its pixels are written as text; save it in binary form")


def _check_scans(data: bytes) -> None:
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > SCANS:
        raise ValueError(f"it is a JPEG of more than {SCANS} scans")


def _sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """What a WebP file says of its size: its decoder makes room for it as soon as the file is opened."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        kind = WEBP_SIZES.get(data[12:16])
        if kind is not None:
            yield kind(data)


def _lossy(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _lossless(data: bytes) -> tuple[int, int]:
    (bits,) = struct.unpack_from("<I", data, 21)
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _extended(data: bytes) -> tuple[int, int]:
    return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1


WEBP_SIZES: Mapping[bytes, Callable[[bytes], tuple[int, int]]] = MappingProxyType(
    {b"VP8 ": _lossy, b"VP8L": _lossless, b"VP8X": _extended}
)

TILE_WIDTH, TILE_LENGTH = 322, 323


def _check_tiles(path: Path, opened: Any) -> None:
    """The tiles of a TIFF have a size of their own, which is allocated."""
    tags = getattr(opened, "tag_v2", {})
    if TILE_WIDTH in tags and TILE_LENGTH in tags:
        _check_size(path, int(tags[TILE_WIDTH]), int(tags[TILE_LENGTH]))


def _coloured(opened: Any) -> Any:
    """Red, green and blue of 8 bits; more bits lose the lowest, where Pillow would cut off what is bright."""
    if opened.mode in SIXTEEN_BITS or (opened.mode == "I" and opened.format in WIDE):
        image = _pillow()
        levels = np.clip(np.asarray(opened).astype(np.int64), 0, _STEP * 255)
        return image.fromarray((levels // _STEP).astype(np.uint8)).convert("RGB")
    if opened.mode in ("I", "F"):
        raise ValueError(
            f"what is white is not known of its pixels (mode {opened.mode}); save them with 8 bits"
        )
    return opened.convert("RGB")
