"""Damaged pictures in an image folder, and damaged CIFAR archives."""

import io
import pickle
import random
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from fxgrow.data.folders import CIFAR10, cifar10, image_folder
from fxgrow.data.request import Request
from fxgrow.errors import DataError
from tools.fuzzing.damage import Damaged, bytes_damaged
from tools.fuzzing.verdicts import Verdict, verdict_of

VICTIM = "train/a/0.png"
SIZE = 8
HEADER = 120
# Mode, format and options of the sound pictures.
FORMS = (
    ("RGB", "PNG", {}), ("P", "PNG", {}), ("I;16", "PNG", {}), ("RGBA", "PNG", {}), ("RGB", "JPEG", {}),
    ("CMYK", "JPEG", {}), ("RGB", "JPEG", {"progressive": True}), ("P", "GIF", {}), ("RGB", "BMP", {}),
    ("RGB", "TIFF", {}), ("RGB", "TIFF", {"compression": "tiff_lzw"}), ("L", "TIFF", {"compression": "tiff_deflate"}),
    ("RGB", "WEBP", {}), ("RGBA", "WEBP", {"lossless": True}), ("RGB", "PPM", {}), ("I;16", "PPM", {}),
)  # fmt: skip


def bases(seed: int) -> tuple[bytes, ...]:
    """One small picture of every form."""
    pixels = np.random.default_rng(seed).integers(0, 256, (11, 13, 3), dtype=np.uint8)
    return (*(_written(pixels, *form) for form in FORMS), _animated(pixels))


def _written(pixels: np.ndarray, mode: str, form: str, options: dict[str, object]) -> bytes:
    wide = pixels[..., 0].astype(np.uint16) * 257
    image = Image.fromarray(wide) if mode == "I;16" else Image.fromarray(pixels).convert(mode)
    written = io.BytesIO()
    image.save(written, form, **options)
    return written.getvalue()


def _animated(pixels: np.ndarray) -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(
        written, "GIF", save_all=True, append_images=[Image.fromarray(255 - pixels)]
    )
    return written.getvalue()


def furnish(directory: Path) -> None:
    """A folder of two pictures, one of which is written over."""
    for split in ("train", "test"):
        (directory / split / "a").mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(directory / split / "a" / "0.png")


def mutate(base: bytes, rng: random.Random) -> Damaged:
    """A picture with one to three places changed, most of them in its header."""
    data, done = base, []
    for _ in range(rng.choice((1, 1, 2, 3))):
        data, kind = bytes_damaged(data, rng, HEADER if rng.random() < 0.6 else None)
        done.append(kind)
    return Damaged({VICTIM: data}, tuple(done))


def judge(made: Damaged, directory: Path) -> Verdict:
    """Whether the folder is read, without a warning, or refused."""
    (directory / VICTIM).write_bytes(made.files[VICTIM])

    def attempt() -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = image_folder(Request(root=directory, size=SIZE))
        return found.train.images.shape == (1, 3, SIZE, SIZE)

    return verdict_of(attempt, DataError)


ARCHIVE = "test_batch"


def archives(seed: int) -> tuple[bytes, ...]:
    """Sound CIFAR files of two images, as different versions of pickle write them."""
    pixels = np.random.default_rng(seed).integers(0, 256, (2, 3072), dtype=np.uint8)
    content = {
        "batch_label": "x",
        "labels": [1, 9],
        "data": pixels,
        "filenames": ["a.png", "b.png"],
    }
    return tuple(pickle.dumps(content, protocol) for protocol in (2, 3, 4))


def furnish_archive(directory: Path) -> None:
    """An archive of which one file is written over."""
    (directory / CIFAR10.folder).mkdir()
    for name in (*CIFAR10.train, *CIFAR10.test):
        (directory / CIFAR10.folder / name).write_bytes(archives(0)[0])


def mutate_archive(base: bytes, rng: random.Random) -> Damaged:
    """A CIFAR file with one to three places changed; the pixels in the middle are left in peace."""
    data, done = base, []
    for _ in range(rng.choice((1, 1, 2, 3))):
        if rng.random() < 0.5:
            data, kind = bytes_damaged(data, rng, 200)
        else:
            tail, kind = bytes_damaged(data[-100:], rng)
            data = data[:-100] + tail
        done.append(kind)
    return Damaged({ARCHIVE: data}, tuple(done))


def judge_archive(made: Damaged, directory: Path) -> Verdict:
    """Whether the archive is read or refused."""
    (directory / CIFAR10.folder / ARCHIVE).write_bytes(made.files[ARCHIVE])
    return verdict_of(
        lambda: cifar10(Request(root=directory)).train.images.shape[1:] == (3, 32, 32), DataError
    )
