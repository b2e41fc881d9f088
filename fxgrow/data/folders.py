"""Data sets that lie on disk already: CIFAR-10 and CIFAR-100 in their own format, and folders of images.

Nothing is downloaded. The CIFAR files are pickles, and a pickle may run any code, so they are read by an unpickler that
knows the few names an array is made of and refuses everything else. That is why torchvision's reader is not used: it
is kept safe only by fixed checksums, and can therefore read no other file in this format.
"""

import codecs
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from fxgrow.data.request import Request
from fxgrow.data.sets import DataSet, RawSplits
from fxgrow.errors import DataError
from fxgrow.optional import need

CIFAR_SHAPE = (3, 32, 32)
BRIGHTEST = 255.0
# Image folders are sorted by class; the order in which a limited number is taken is the same for everybody.
ORDER_SEED = 0

_RECONSTRUCT = np.empty(0).__reduce__()[0]
_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
ARRAY_NAMES: Mapping[tuple[str, str], Any] = MappingProxyType(
    {(module, "_reconstruct"): _RECONSTRUCT for module in _ARRAY_MODULES}
    | {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype, ("_codecs", "encode"): codecs.encode}
)


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
    fix = f"unpack {archive.address} into the data root"
    folder = _directory(_root(request) / archive.folder, fix)
    train = _cifar_part(folder, archive.train, archive).first(request.train_size)
    test = _cifar_part(folder, archive.test, archive).first(request.test_size)
    return RawSplits(train, test, archive.classes)


def _cifar_part(folder: Path, names: tuple[str, ...], archive: Cifar) -> DataSet:
    parts = [_cifar_file(folder / name, archive) for name in names]
    return DataSet(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))


def _cifar_file(path: Path, archive: Cifar) -> DataSet:
    content = _unpickle(path)
    if not isinstance(content, dict) or not {"data", archive.labels} <= content.keys():
        raise _wrong(path, f"it holds no 'data' and {archive.labels!r}")
    pixels, labels = np.asarray(content["data"]), np.asarray(content[archive.labels])
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), np.prod(CIFAR_SHAPE)):
        raise _wrong(path, f"{len(labels)} labels came with {pixels.dtype} pixels of shape {pixels.shape}")
    if labels.ndim != 1 or labels.dtype.kind != "i" or not ((labels >= 0) & (labels < archive.classes)).all():
        raise _wrong(path, f"its labels are not numbers from 0 to {archive.classes - 1}")
    return DataSet(_unit(torch.from_numpy(pixels.reshape(-1, *CIFAR_SHAPE))), torch.from_numpy(labels.astype(np.int64)))


class _ArrayUnpickler(pickle.Unpickler):
    """Builds dictionaries, lists, numbers, texts and arrays, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """The allowed object of that name."""
        if (module, name) not in ARRAY_NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return ARRAY_NAMES[module, name]


def _unpickle(path: Path) -> Any:
    if not path.is_file():
        raise DataError("missing-file", f"{path} is missing from the data set; unpack the archive again")
    with path.open("rb") as file:
        return _loaded(file, path)


def _loaded(file: BinaryIO, path: Path) -> Any:
    # The archives were written by Python 2, whose byte strings are text here. These are what a damaged pickle raises.
    try:
        return _ArrayUnpickler(file, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise _wrong(path, str(error)) from error


def _wrong(path: Path, reason: str) -> DataError:
    return DataError("wrong-format", f"{path} is not a CIFAR file ({reason}); unpack the archive again")


def image_folder(request: Request) -> RawSplits:
    """Images in ``root/train/CLASS/*`` and ``root/test/CLASS/*`` (or ``root/val``), squeezed to size x size, coloured.

    Classes are numbered in alphabetical order. All images are held in memory as float32; ``train_size`` and
    ``test_size`` take a random choice, the same each time, and read no more than that.
    """
    root = _directory(_root(request), "give the folder that holds train/ and test/")
    train_root = _directory(root / "train", "put one folder of images per class into it")
    test_root = next((root / name for name in ("test", "val") if (root / name).is_dir()), root / "test")
    train = _listed(train_root)
    test = _listed(_directory(test_root, "put one folder of images per class into it"))
    if train.classes != test.classes:
        odd = ", ".join(sorted(set(train.classes) ^ set(test.classes)))
        raise DataError(
            "classes", f"{train_root} and {test_root} differ in the classes {odd}; give both a folder of each"
        )
    if request.size is None:
        raise DataError("option", "images of an image folder differ in size; give the size they shall have")
    return RawSplits(
        train=_images(train, request.size, request.train_size),
        test=_images(test, request.size, request.test_size),
        classes=len(train.classes),
    )


def _listed(root: Path) -> Any:
    datasets = need("torchvision.datasets", extra="vision", error=DataError)
    try:
        return datasets.ImageFolder(str(root))
    except FileNotFoundError as error:
        # torchvision's own sentence names the folder or the class without images, over several lines.
        raise DataError("no-images", f"{root} cannot be used: {' '.join(str(error).split())}") from error


def _images(listed: Any, size: int, limit: int | None) -> DataSet:
    functional = need("torchvision.transforms.functional", extra="vision", error=DataError)
    order = torch.randperm(len(listed), generator=torch.Generator().manual_seed(ORDER_SEED))[:limit].tolist()
    # One at a time: the pictures of a large folder would not fit into memory in their own size.
    small = [functional.pil_to_tensor(functional.resize(_picture(listed, index), [size, size])) for index in order]
    return DataSet(_unit(torch.stack(small)), torch.tensor([listed.targets[index] for index in order]))


def _picture(listed: Any, index: int) -> Any:
    path = listed.samples[index][0]
    try:
        return listed.loader(path)
    except OSError as error:
        raise DataError("wrong-format", f"the image {path} cannot be read ({error}); repair or remove it") from error


def _unit(pixels: Tensor) -> Tensor:
    """Bytes to float32 from 0 to 1."""
    return pixels.to(torch.float32) / BRIGHTEST


def _root(request: Request) -> Path:
    if request.root is None:
        raise DataError("no-root", "this data set lies on disk, but no directory was given; name it with --data-root")
    return request.root


def _directory(path: Path, fix: str) -> Path:
    if not path.is_dir():
        raise DataError("missing-directory", f"the directory {path} does not exist, so there is no data; {fix}")
    return path
