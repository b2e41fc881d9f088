"""Read one picture from bytes that may be hostile: resized to RGB, or refused before it is decoded.

A picture of a few kilobytes may decode to gigabytes, so its sides are compared with limits first.
Pillow also knows formats that run other programs (EPS) or that take far too much time; only those
of ``PICTURE_FORMATS`` are tried.
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
"""Largest picture file, in bytes."""
# Largest picture, in pixels; the largest one of ImageNet has 61 million.
_MAX_PIXELS = 2**26
_MAX_SIDE = 2**16
FREE_PIXELS = 2**22
"""A picture of up to this many pixels may come from a file of any size."""
PER_BYTE = 1024
"""Pixels per byte of a file for larger pictures: decoding time stays proportional to file size."""
SCANS = 100
"""Scans of a progressive JPEG. Each is a pass over the whole picture; ten are usual."""
FIX = "repair or remove it"

SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes of 16-bit gray pictures."""
WIDE = ("PNG", "PPM")
"""The formats that Pillow opens in mode I (32 bits) though the file has 16 bits per pixel."""
# 65,535 / 255: from one of 256 levels to the next among 65,536.
_LEVEL_STEP = 257
# What Pillow's decoders raise for damaged bytes; most of them expect sound input.
DAMAGED = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError,
    EOFError, RuntimeError, MemoryError, struct.error, zlib.error,
)  # fmt: skip


def read_picture(path: Path, size: int) -> Tensor:
    """Read a picture file as bytes [3, size, size], resized without keeping its aspect ratio.

    Of an animation only the first picture is read; transparency is dropped.

    Args:
        path: the file.
        size: height and width of the result.

    Raises:
        DataError: ``wrong-format`` if it is damaged or no picture, ``too-large``,
            ``missing-extra`` without Pillow, and the errors of ``read_content``.
    """
    data = read_content(path, PICTURE_BYTES, FIX)
    with _decoding_errors(path):
        _refuse_text_pixels(data)
        _refuse_many_scans(data)
        webp_size = _webp_size(data)
        if webp_size is not None:
            _check_pixels(path, *webp_size, len(data))
        image = _pillow()
        picture = image.open(io.BytesIO(data), formats=PICTURE_FORMATS)  # reads the header only
        width, height = picture.size
        _check_pixels(path, width, height, len(data))
        _check_tiles(path, picture)
        small = _to_rgb(picture).resize((size, size), image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1)  # from [size, size, 3]


def _pillow() -> Any:
    """Import Pillow's image module, which comes with torchvision."""
    require("torchvision", extra="vision", error=DataError)
    return import_module("PIL.Image")


@contextmanager
def _decoding_errors(path: Path) -> Iterator[None]:
    """Turn whatever Pillow raises into a ``DataError``, and hide its warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DataError:
        raise
    except _pillow().DecompressionBombError as error:
        raise DataError(
            "too-large",
            f"the image {shown_path(path)} has more pixels than are unpacked ({error}); "
            "make it smaller or remove it",
        ) from error
    except DAMAGED as error:
        reason = " ".join(shown_path(str(error)).split())[:300] or type(error).__name__
        raise DataError(
            "wrong-format", f"the image {shown_path(path)} cannot be read ({reason}); {FIX}"
        ) from error


def _check_pixels(path: Path, width: int, height: int, file_bytes: int) -> None:
    _check_size(path, width, height)
    _check_pixels_per_byte(path, width, height, file_bytes)


def _check_size(path: Path, width: int, height: int) -> None:
    if max(width, height) > _MAX_SIDE or width * height > _MAX_PIXELS:
        raise DataError(
            "too-large",
            f"the image {shown_path(path)} claims to have {width} x {height} pixels, over the "
            f"limit of {_MAX_PIXELS} and {_MAX_SIDE} a side, so it is not unpacked; "
            "make it smaller or remove it",
        )
    if min(width, height) < 1:
        raise DataError(
            "wrong-format",
            f"the image {shown_path(path)} has {width} x {height} pixels, so none; {FIX}",
        )


def _check_pixels_per_byte(path: Path, width: int, height: int, file_bytes: int) -> None:
    if width * height > max(FREE_PIXELS, PER_BYTE * file_bytes):
        raise DataError(
            "too-large",
            f"the image {shown_path(path)} claims that its {file_bytes} bytes are "
            f"{width} x {height} pixels, over {PER_BYTE} a byte, so it is not unpacked; "
            "make it smaller or remove it",
        )


def _refuse_text_pixels(data: bytes) -> None:
    # PPM variants P1 to P3 write pixels as decimal numbers. Pillow reads them one by one, and the
    # comments between them in quadratic time.
    if data[:1] == b"P" and data[1:2] in b"123":
        raise ValueError("its pixels are written as text; save it in binary form")


def _refuse_many_scans(data: bytes) -> None:
    # FF D8 begins a JPEG, FF DA begins a scan.
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > SCANS:
        raise ValueError(f"it is a JPEG of more than {SCANS} scans")


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Read the width and height of a WebP file from its header; None for other files.

    Pillow's WebP decoder allocates the picture when the file is opened, so its size has to be
    checked before that.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    read_size = WEBP_SIZES.get(data[12:16])
    return None if read_size is None else read_size(data)


# Where the three kinds of WebP keep their size (RFC 9649, sections 2.5 to 2.7).
def _lossy_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF  # the two highest bits are a scale


def _lossless_size(data: bytes) -> tuple[int, int]:
    (bits,) = struct.unpack_from("<I", data, 21)
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _extended_size(data: bytes) -> tuple[int, int]:
    return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1


WEBP_SIZES: Mapping[bytes, Callable[[bytes], tuple[int, int]]] = MappingProxyType(
    {b"VP8 ": _lossy_size, b"VP8L": _lossless_size, b"VP8X": _extended_size}
)

TILE_WIDTH, TILE_LENGTH = 322, 323
"""The TIFF tags that hold the size of a tile."""


def _check_tiles(path: Path, picture: Any) -> None:
    """Check the tile size of a TIFF: a tile is allocated whole, however small the picture is."""
    tags = getattr(picture, "tag_v2", {})
    if TILE_WIDTH in tags and TILE_LENGTH in tags:
        _check_size(path, int(tags[TILE_WIDTH]), int(tags[TILE_LENGTH]))


def _to_rgb(picture: Any) -> Any:
    """Convert to RGB of 8 bits per channel; of 16 bits the highest 8 are kept.

    Pillow's own conversion of 16 bits would clip everything over 255 to white.
    """
    is_sixteen_bits = picture.mode == "I" and picture.format in WIDE
    if picture.mode in SIXTEEN_BITS or is_sixteen_bits:
        image = _pillow()
        levels = np.clip(np.asarray(picture).astype(np.int64), 0, _LEVEL_STEP * 255)
        return image.fromarray((levels // _LEVEL_STEP).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F"):
        raise ValueError(
            f"what is white is not known of its pixels (mode {picture.mode}); save them with 8 bits"
        )
    return picture.convert("RGB")
