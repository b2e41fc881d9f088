"""Data sets on disk: CIFAR-10 and CIFAR-100 in their own format, and folders of images.

Nothing is downloaded. The files may be hostile: the CIFAR files are pickles, which are read as
data and never executed (``fxgrow.data.pickles``), a picture may claim to be larger than any memory
(``fxgrow.data.pictures``), and a name may lead to a pipe or out of the folder
(``fxgrow.data.files``). That is why torchvision's readers are not used.

Source of CIFAR: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
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
from fxgrow.data.pickles import Array, NotDataError, unpickle_data
from fxgrow.data.pictures import SUFFIXES, read_picture
from fxgrow.data.request import Request
from fxgrow.data.sets import DataSet, RawSplits
from fxgrow.errors import DataError

CIFAR_SHAPE = (3, 32, 32)
CIFAR_BYTES = 2**28
"""Largest CIFAR file that is read, in bytes; the largest real one (CIFAR-100) has 155 million."""
_MAX_PIXEL = 255.0
# Image folders are sorted by class, so a limited number of images is a random choice. The order is
# the same for every seed of a run.
ORDER_SEED = 0
_COLOR_CHANNELS = 3
# Larger whole numbers in a list of labels do not fit into int64.
_MAX_LABEL = 2**62
UNPACK = "unpack the archive again"
ONE_FOLDER = "put one folder of images per class into it"


NumberArray = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Cifar:
    """The layout of one CIFAR archive.

    Args:
        folder: the directory that the archive unpacks to.
        train: names of the files with training images.
        test: names of the files with test images.
        labels: the key of the labels in each file.
        classes: number of classes.
        address: where the archive can be downloaded.
    """

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: str
    classes: int
    address: str


CIFAR10 = Cifar(
    folder="cifar-10-batches-py",
    train=("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"),
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
    """Load CIFAR-10 from ``root/cifar-10-batches-py``.

    Images are [N, 3, 32, 32]: 50,000 for training and 10,000 for testing.

    Args:
        request: ``root`` is the data root; ``train_size`` and ``test_size`` take the first images.

    Raises:
        DataError: ``no-root``, ``missing-directory``, ``missing-file``, ``wrong-format``,
            ``too-large``, ``symlink``, ``not-a-file`` or ``unreadable``.
    """
    return _cifar(CIFAR10, request)


def cifar100(request: Request) -> RawSplits:
    """Load CIFAR-100 with its fine labels from ``root/cifar-100-python``; else as ``cifar10``."""
    return _cifar(CIFAR100, request)


def _cifar(archive: Cifar, request: Request) -> RawSplits:
    folder = data_directory(
        _root(request) / archive.folder, f"unpack {archive.address} into the data root"
    )
    train = _cifar_split(folder, archive.train, archive, request.train_size)
    test = _cifar_split(folder, archive.test, archive, request.test_size)
    return RawSplits(train, test, archive.classes)


def _cifar_split(
    folder: Path, names: tuple[str, ...], archive: Cifar, limit: int | None
) -> DataSet:
    """Read the files of one split, and keep the first ``limit`` images."""
    all_pixels, all_labels = [], []
    for name in names:
        file_pixels, file_labels = _cifar_file(folder / name, archive)
        all_pixels.append(file_pixels)
        all_labels.append(file_labels)
    pixels = torch.from_numpy(np.concatenate(all_pixels))[:limit]  # [N, 3072] bytes
    labels = torch.from_numpy(np.concatenate(all_labels))[:limit]
    check_memory("images", len(pixels), _COLOR_CHANNELS, CIFAR_SHAPE[-1])
    return DataSet(_scaled_to_one(pixels.view(-1, *CIFAR_SHAPE)), labels)


def _cifar_file(path: Path, archive: Cifar) -> tuple[NumberArray, NumberArray]:
    """Read and check one file: its pixels [N, 3072] as bytes, and its labels [N] as int64."""
    try:
        content = unpickle_data(read_content(path, CIFAR_BYTES, UNPACK))
    except NotDataError as error:
        raise _wrong_format(path, str(error)) from error
    if not isinstance(content, dict) or not {"data", archive.labels} <= content.keys():
        raise _wrong_format(path, f"it holds no 'data' and {archive.labels!r}")
    pixels, labels = _numbers(content["data"]), _numbers(content[archive.labels])
    if pixels is None or labels is None:
        raise _wrong_format(path, "its pixels are no array or its labels no whole numbers")
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), np.prod(CIFAR_SHAPE)):
        raise _wrong_format(
            path, f"{len(labels)} labels came with {pixels.dtype} pixels of shape {pixels.shape}"
        )
    if not _are_labels(labels, archive.classes):
        raise _wrong_format(path, f"its labels are not numbers from 0 to {archive.classes - 1}")
    return pixels, labels.astype(np.int64)


def _are_labels(labels: NumberArray, classes: int) -> bool:
    if labels.ndim != 1 or labels.dtype.kind != "i":
        return False
    return bool(((labels >= 0) & (labels < classes)).all())


def _numbers(value: object) -> NumberArray | None:
    """Return the numbers of an unpickled array or list; None if it is neither."""
    if isinstance(value, Array):
        # An array of no axes has no length.
        return value.values if value.values is not None and value.values.ndim else None
    if isinstance(value, list) and all(map(_is_label_number, value)):
        return np.array(value, dtype=np.int64)
    return None


def _is_label_number(item: object) -> bool:
    # bool is a subclass of int, so the type is compared exactly.
    return type(item) is int and abs(item) < _MAX_LABEL


def _wrong_format(path: Path, reason: str) -> DataError:
    return DataError(
        "wrong-format", f"{shown_path(path)} is not a CIFAR file ({shown_path(reason)}); {UNPACK}"
    )


def image_folder(request: Request) -> RawSplits:
    """Load images from ``root/train/CLASS/*`` and ``root/test/CLASS/*`` (or ``root/val``).

    Images become RGB and are resized to size x size without keeping their aspect ratio. Classes
    are numbered in alphabetical order; files that are not named like a picture are skipped. All
    images are held in memory as float32.

    Args:
        request: ``root`` is the folder, ``size`` is required. ``train_size`` and ``test_size``
            take a random choice, the same each time, and only these images are read.

    Raises:
        DataError: ``no-root``, ``missing-directory``, ``classes`` if train and test do not have
            the same classes, ``no-images``, ``option`` without a size, ``too-large``,
            ``wrong-format``, ``symlink``, ``not-a-file`` or ``unreadable``.
    """
    root = _root(request)
    train_root = data_directory(root / "train", ONE_FOLDER)
    test_root = _test_root(root)
    train = _list_classes(train_root)
    test = _list_classes(data_directory(test_root, ONE_FOLDER))
    if train.classes != test.classes:
        different = shown_names(sorted(set(train.classes) ^ set(test.classes)))
        raise DataError(
            "classes",
            f"{shown_path(train_root)} and {shown_path(test_root)} differ in the classes "
            f"{different}; give both a folder of each",
        )
    if request.size is None:
        raise DataError(
            "option", "images of an image folder differ in size; give the size they shall have"
        )
    train_files, test_files = train.choose(request.train_size), test.choose(request.test_size)
    channels = max(_COLOR_CHANNELS, request.channels or 0)
    check_memory("images", len(train_files) + len(test_files), channels, request.size)
    return RawSplits(
        train=_read_images(train_files, request.size),
        test=_read_images(test_files, request.size),
        classes=len(train.classes),
    )


def _test_root(root: Path) -> Path:
    """Return the folder of the test images: ``test``, or ``val`` where there is only that."""
    has_test = os.path.lexists(root / "test")
    has_val = os.path.lexists(root / "val")
    return root / "val" if has_val and not has_test else root / "test"


@dataclass(frozen=True)
class _PictureFile:
    """A picture that has not been read yet, and the number of its class."""

    path: Path
    label: int


@dataclass(frozen=True)
class _ClassListing:
    """The classes and pictures in a folder of class folders."""

    classes: tuple[str, ...]
    files: tuple[_PictureFile, ...]

    def choose(self, limit: int | None) -> list[_PictureFile]:
        """Return at most ``limit`` files, in a random order that is always the same."""
        generator = torch.Generator().manual_seed(ORDER_SEED)
        order = torch.randperm(len(self.files), generator=generator)[:limit]
        return [self.files[index] for index in order.tolist()]


def _list_classes(root: Path) -> _ClassListing:
    classes: list[str] = []
    files: list[_PictureFile] = []
    empty: list[str] = []
    for entry in directory_entries(root):
        if not entry.is_dir(follow_symlinks=False):
            continue
        paths = sorted(files_below(Path(entry.path), SUFFIXES), key=_sort_key)
        if not paths:
            empty.append(entry.name)
        label = len(classes)
        classes.append(entry.name)
        files += [_PictureFile(path, label) for path in paths]
    if empty or not classes:
        lacking = f"the classes {shown_names(empty)}" if empty else "any class"
        raise DataError(
            "no-images",
            f"{shown_path(root)} cannot be used: Found no valid file for {lacking}; "
            "put pictures into a folder each",
        )
    return _ClassListing(tuple(classes), tuple(files))


def _sort_key(path: Path) -> tuple[str, str]:
    """Order a folder's own files before those of its subfolders, as torchvision does."""
    return str(path.parent), path.name


def _read_images(files: Sequence[_PictureFile], size: int) -> DataSet:
    # One at a time: the pictures of a large folder would not fit into memory in their own size.
    pixels = torch.empty((len(files), _COLOR_CHANNELS, size, size), dtype=torch.uint8)
    for image, file in zip(pixels, files, strict=True):
        image.copy_(read_picture(file.path, size))
    labels = torch.tensor([file.label for file in files])
    return DataSet(_scaled_to_one(pixels), labels)


def _scaled_to_one(pixels: Tensor) -> Tensor:
    """Convert bytes to float32 from 0 to 1."""
    return pixels.to(torch.float32) / _MAX_PIXEL


def _root(request: Request) -> Path:
    if request.root is None:
        raise DataError(
            "no-root",
            "this data set lies on disk, but no directory was given; name it with --data-root",
        )
    return root_directory(request.root, "give the folder that holds the data")
