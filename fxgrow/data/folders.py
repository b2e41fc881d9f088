"""Data sets that lie on disk already: CIFAR-10 and CIFAR-100 in their own format, and folders of images.

Nothing is downloaded. Whoever made the files may mean harm: the CIFAR files are pickles, which are read as data and
never run (``fxgrow.data.pickles``), a picture may say that it is larger than any memory (``fxgrow.data.pictures``), and
a name may lead to a pipe or out of the folder (``fxgrow.data.files``). That is why torchvision's readers are not used.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fxgrow.data.files import (
    data_directory,
    directory_entries,
    files_below,
    read_content,
    root_directory,
    shown_names,
    shown_path,
)
from fxgrow.data.memory import check_memory
from fxgrow.data.pickles import Array, NotData, unpickle_data
from fxgrow.data.pictures import SUFFIXES, read_picture
from fxgrow.data.request import Request
from fxgrow.data.sets import DataSet, RawSplits
from fxgrow.errors import DataError

CIFAR_SHAPE = (3, 32, 32)
CIFAR_BYTES = 2**28
"""Of one file; the largest one, of CIFAR-100, has 155 million."""
_MAX_PIXEL = 255.0
# Image folders are sorted by class; the order in which a limited number is taken is the same for everybody.
ORDER_SEED = 0
_COLOR_CHANNELS = 3
UNPACK = "unpack the archive again"
ONE_FOLDER = "put one folder of images per class into it"


NumberArray = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Cifar:
    """The layout of one CIFAR archive."""

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: str
    classes: int
    address: str


CIFAR10 = Cifar(
    folder="cifar-10-batches-py",
    train=tuple(f"data_batch_{index}" for index in range(1, 6)),
    test=("test_batch",),
    labels="labels",
    classes=10,
    address="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)
CIFAR100 = Cifar(
    folder="cifar-100-python",
    train=("train",),
    test=("test",),
    labels="fine_labels",
    classes=100,
    address="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
)


def cifar10(request: Request) -> RawSplits:
    """CIFAR-10 from ``root/cifar-10-batches-py``: 3 x 32 x 32, 50,000 images to train on and 10,000 to test on."""
    return _cifar(CIFAR10, request)


def cifar100(request: Request) -> RawSplits:
    """CIFAR-100 with its fine labels, from ``root/cifar-100-python``; otherwise like ``cifar10``."""
    return _cifar(CIFAR100, request)


def _cifar(archive: Cifar, request: Request) -> RawSplits:
    folder = data_directory(
        _root(request) / archive.folder, f"unpack {archive.address} into the data root"
    )
    train = _cifar_part(folder, archive.train, archive, request.train_size)
    test = _cifar_part(folder, archive.test, archive, request.test_size)
    return RawSplits(train, test, archive.classes)


def _cifar_part(folder: Path, names: tuple[str, ...], archive: Cifar, limit: int | None) -> DataSet:
    parts = [_cifar_file(folder / name, archive) for name in names]
    pixels = torch.from_numpy(np.concatenate([pixels for pixels, _ in parts]))[:limit]
    labels = torch.from_numpy(np.concatenate([labels for _, labels in parts]))[:limit]
    check_memory("images", len(pixels), _COLOR_CHANNELS, CIFAR_SHAPE[-1])
    return DataSet(_unit(pixels.view(-1, *CIFAR_SHAPE)), labels)


def _cifar_file(path: Path, archive: Cifar) -> tuple[NumberArray, NumberArray]:
    """The pixels of a file, N x 3,072 bytes, and its labels."""
    try:
        found = unpickle_data(read_content(path, CIFAR_BYTES, UNPACK))
    except NotData as error:
        raise _wrong(path, str(error)) from error
    if not isinstance(found, dict) or not {"data", archive.labels} <= found.keys():
        raise _wrong(path, f"it holds no 'data' and {archive.labels!r}")
    pixels, labels = _numbers(found["data"]), _numbers(found[archive.labels])
    if pixels is None or labels is None:
        raise _wrong(path, "its pixels are no array or its labels no whole numbers")
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), np.prod(CIFAR_SHAPE)):
        raise _wrong(
            path, f"{len(labels)} labels came with {pixels.dtype} pixels of shape {pixels.shape}"
        )
    if (
        labels.ndim != 1
        or labels.dtype.kind != "i"
        or not ((labels >= 0) & (labels < archive.classes)).all()
    ):
        raise _wrong(path, f"its labels are not numbers from 0 to {archive.classes - 1}")
    return pixels, labels.astype(np.int64)


def _numbers(held: object) -> NumberArray | None:
    """An array, or a list of whole numbers that fit into one."""
    if isinstance(held, Array):
        return held.values if held.values is not None and held.values.ndim else None
    if isinstance(held, list) and all(type(item) is int and abs(item) < 2**62 for item in held):
        return np.array(held, dtype=np.int64)
    return None


def _wrong(path: Path, reason: str) -> DataError:
    return DataError(
        "wrong-format", f"{shown_path(path)} is not a CIFAR file ({shown_path(reason)}); {UNPACK}"
    )


def image_folder(request: Request) -> RawSplits:
    """Images in ``root/train/CLASS/*`` and ``root/test/CLASS/*`` (or ``root/val``), squeezed to size x size, coloured.

    Classes are numbered in alphabetical order; files that are not named like a picture are left out. All images are
    held in memory as float32; ``train_size`` and ``test_size`` take a random choice, the same each time, and read no
    more than that.
    """
    root = _root(request)
    train_root = data_directory(root / "train", ONE_FOLDER)
    test_root = next(
        (root / name for name in ("test", "val") if os.path.lexists(root / name)), root / "test"
    )
    train, test = _listed(train_root), _listed(data_directory(test_root, ONE_FOLDER))
    if train.classes != test.classes:
        odd = shown_names(sorted(set(train.classes) ^ set(test.classes)))
        raise DataError(
            "classes",
            f"{shown_path(train_root)} and {shown_path(test_root)} differ in the classes {odd}; give both a folder of each",
        )
    if request.size is None:
        raise DataError(
            "option", "images of an image folder differ in size; give the size they shall have"
        )
    chosen = train.chosen(request.train_size), test.chosen(request.test_size)
    check_memory(
        "images", sum(map(len, chosen)), max(_COLOR_CHANNELS, request.channels or 0), request.size
    )
    first, second = (_images(files, request.size) for files in chosen)
    return RawSplits(train=first, test=second, classes=len(train.classes))


@dataclass(frozen=True)
class _File:
    """A picture, not read yet, and the number of its class."""

    path: Path
    label: int


@dataclass(frozen=True)
class _Listed:
    """What lies in a folder of classes."""

    classes: tuple[str, ...]
    files: tuple[_File, ...]

    def chosen(self, limit: int | None) -> list[_File]:
        """At most ``limit`` of the files, in an order that is always the same."""
        generator = torch.Generator().manual_seed(ORDER_SEED)
        return [
            self.files[index]
            for index in torch.randperm(len(self.files), generator=generator)[:limit].tolist()
        ]


def _listed(root: Path) -> _Listed:
    folders = [
        Path(entry.path) for entry in directory_entries(root) if entry.is_dir(follow_symlinks=False)
    ]
    found = [sorted(files_below(folder, SUFFIXES), key=_place) for folder in folders]
    empty = [folder.name for folder, paths in zip(folders, found, strict=True) if not paths]
    if empty or not folders:
        lacking = f"the classes {shown_names(empty)}" if empty else "any class"
        raise DataError(
            "no-images",
            f"{shown_path(root)} cannot be used: Found no valid file for {lacking}; put pictures into a folder each",
        )
    files = [_File(path, label) for label, paths in enumerate(found) for path in paths]
    return _Listed(tuple(folder.name for folder in folders), tuple(files))


def _place(path: Path) -> tuple[str, str]:
    """A folder's own files before those of the folders in it, as torchvision orders them."""
    return str(path.parent), path.name


def _images(files: Sequence[_File], size: int) -> DataSet:
    # One at a time: the pictures of a large folder would not fit into memory in their own size.
    pixels = torch.empty((len(files), _COLOR_CHANNELS, size, size), dtype=torch.uint8)
    for place, file in zip(pixels, files, strict=True):
        place.copy_(read_picture(file.path, size))
    return DataSet(_unit(pixels), torch.tensor([file.label for file in files]))


def _unit(pixels: Tensor) -> Tensor:
    """Bytes to float32 from 0 to 1."""
    return pixels.to(torch.float32) / _MAX_PIXEL


def _root(request: Request) -> Path:
    if request.root is None:
        raise DataError(
            "no-root",
            "this data set lies on disk, but no directory was given; name it with --data-root",
        )
    return root_directory(request.root, "give the folder that holds the data")
