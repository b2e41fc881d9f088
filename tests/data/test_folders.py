"""CIFAR archives and image folders, written by the tests byte for byte as their authors' files are."""

import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fxgrow.data import load_data
from fxgrow.data.folders import CIFAR10, CIFAR100, Cifar, cifar10, cifar100, image_folder
from fxgrow.data.request import Request
from fxgrow.errors import DataError

PER_FILE = 4
READERS = {CIFAR10: cifar10, CIFAR100: cifar100}


def text(content: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(content)) + content


def integer(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def python2_array(pixels: np.ndarray[Any, Any]) -> bytes:
    kind = (
        b"cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + text(b"|")
        + b"NNN"
        + integer(-1) * 2
        + b"K\x00tb"
    )
    shape = integer(pixels.shape[0]) + integer(pixels.shape[1]) + b"\x86"
    empty = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    )
    return empty + b"(K\x01" + shape + kind + b"\x89" + text(pixels.tobytes()) + b"tb"


def python2_pickle(pixels: np.ndarray[Any, Any], labels: list[int], key: str) -> bytes:
    """What Python 2 wrote, by ``cPickle`` and protocol 2: text is bytes, and numpy's modules have their old names."""
    listed = b"](" + b"".join(map(integer, labels)) + b"e"
    return (
        b"\x80\x02}(" + text(b"data") + python2_array(pixels) + text(key.encode()) + listed + b"u."
    )


def write_cifar(root: Path, archive: Cifar) -> Mapping[str, tuple[np.ndarray[Any, Any], list[int]]]:
    random = np.random.default_rng(0)
    (root / archive.folder).mkdir()
    written = {}
    for name in archive.train + archive.test:
        pixels = random.integers(0, 256, (PER_FILE, 3072), dtype=np.uint8)
        labels = random.integers(0, archive.classes, PER_FILE).tolist()
        (root / archive.folder / name).write_bytes(python2_pickle(pixels, labels, archive.labels))
        written[name] = (pixels, labels)
    return written


@pytest.mark.parametrize("archive", READERS, ids=lambda archive: archive.folder)
def test_cifar_is_read_as_it_was_written(archive: Cifar, tmp_path: Path) -> None:
    written = write_cifar(tmp_path, archive)
    raw = READERS[archive](Request(root=tmp_path))
    for part, names in ((raw.train, archive.train), (raw.test, archive.test)):
        pixels = np.concatenate([written[name][0] for name in names]).reshape(-1, 3, 32, 32)
        assert torch.equal((part.images * 255).round().to(torch.uint8), torch.from_numpy(pixels))
        assert part.labels.tolist() == [label for name in names for label in written[name][1]]
    assert raw.classes == archive.classes


# torchvision unpickles by numpy's old module names
@pytest.mark.filterwarnings("ignore:numpy.core.multiarray is deprecated:DeprecationWarning")
def test_cifar_agrees_with_torchvision(tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    write_cifar(tmp_path, CIFAR10)
    with (tmp_path / CIFAR10.folder / "batches.meta").open("wb") as file:
        pickle.dump({"label_names": [str(index) for index in range(10)]}, file)
    unchecked = {
        "train_list": [[name, None] for name in CIFAR10.train],
        "test_list": [[name, None] for name in CIFAR10.test],
        "meta": {"filename": "batches.meta", "key": "label_names", "md5": None},
    }
    theirs = type("Unchecked", (datasets.CIFAR10,), unchecked)(tmp_path, train=True)
    ours = cifar10(Request(root=tmp_path)).train
    assert torch.equal(
        (ours.images * 255).round().to(torch.uint8),
        torch.from_numpy(theirs.data).permute(0, 3, 1, 2),
    )
    assert ours.labels.tolist() == theirs.targets


def test_cifar_written_by_this_python_is_read_too(tmp_path: Path) -> None:
    write_cifar(tmp_path, CIFAR10)
    content = {"data": np.full((2, 3072), 255, np.uint8), "labels": [1, 9], "batch_label": "one"}
    for protocol in (2, 4):
        (tmp_path / CIFAR10.folder / "test_batch").write_bytes(pickle.dumps(content, protocol))
        test = cifar10(Request(root=tmp_path)).test
        assert test.labels.tolist() == [1, 9]
        assert torch.equal(test.images, torch.ones(2, 3, 32, 32))


def test_cifar_through_load_data(tmp_path: Path) -> None:
    write_cifar(tmp_path, CIFAR10)
    splits = load_data("cifar10", root=tmp_path, train_size=7, test_size=2)
    assert (len(splits.train), len(splits.test), splits.shape, splits.classes) == (
        7,
        2,
        (3, 32, 32),
        10,
    )


class Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("attacked"),)


def test_a_pickle_that_runs_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_cifar(tmp_path, CIFAR10)
    (tmp_path / CIFAR10.folder / "test_batch").write_bytes(
        pickle.dumps({"data": Attack(), "labels": []})
    )
    with pytest.raises(DataError, match=r"test_batch is not a CIFAR file \(it asks for "):
        cifar10(Request(root=tmp_path))
    assert not Path("attacked").exists()


PIXELS = np.zeros((2, 3072), np.uint8)
DAMAGED = {
    "empty": b"",
    "no pickle": b"hello, I am a text file",
    "cut off": python2_pickle(PIXELS, [0, 1], "labels")[:-40],
    "a list": pickle.dumps([1, 2]),
    "other labels": python2_pickle(PIXELS, [0, 1], "coarse_labels"),
    "too few labels": python2_pickle(PIXELS, [0], "labels"),
    "label too large": python2_pickle(PIXELS, [0, 10], "labels"),
    "label below zero": python2_pickle(PIXELS, [0, -1], "labels"),
    "image too small": python2_pickle(PIXELS[:, :768], [0, 1], "labels"),
    "float pixels": pickle.dumps({"data": PIXELS.astype(np.float32), "labels": [0, 1]}, 2),
    "text labels": pickle.dumps({"data": PIXELS, "labels": ["a", "b"]}, 2),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_cifar_files_are_named(damage: str, tmp_path: Path) -> None:
    write_cifar(tmp_path, CIFAR10)
    (tmp_path / CIFAR10.folder / "data_batch_3").write_bytes(DAMAGED[damage])
    with pytest.raises(DataError, match=r"data_batch_3 is not a CIFAR file") as caught:
        cifar10(Request(root=tmp_path))
    assert caught.value.code == "wrong-format"


def test_a_missing_cifar_file_is_named(tmp_path: Path) -> None:
    write_cifar(tmp_path, CIFAR10)
    (tmp_path / CIFAR10.folder / "data_batch_2").unlink()
    with pytest.raises(DataError, match="data_batch_2 is missing"):
        cifar10(Request(root=tmp_path))


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagefolder"])
def test_a_missing_directory_is_named_with_its_fix(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=rf"{tmp_path}/\S+ does not exist, so there is no data; \w+"
    ):
        load_data(name, root=tmp_path)
    with pytest.raises(DataError, match="--data-root"):
        load_data(name)


COLOURS = {"blue": (0, 0, 255), "grey": (90, 90, 90), "red": (255, 0, 0)}


def write_images(root: Path, count: int) -> None:
    image = pytest.importorskip("PIL.Image")
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            image.new("RGB", (9 + index, 7), colour).save(root / name / f"{index}.png")


@pytest.mark.parametrize("second", ["test", "val"])
def test_image_folders_are_read_resized_and_mixed(second: str, tmp_path: Path) -> None:
    write_images(tmp_path / "train", 4)
    write_images(tmp_path / second, 2)
    raw = image_folder(Request(root=tmp_path, size=8))
    assert (len(raw.train), len(raw.test), raw.classes) == (12, 6, 3)
    assert raw.train.images.shape == (12, 3, 8, 8)
    colours = torch.tensor(list(COLOURS.values()))[raw.train.labels]
    assert torch.allclose(raw.train.images, (colours / 255)[..., None, None].expand(-1, -1, 8, 8))
    assert raw.train.labels.tolist() != sorted(raw.train.labels.tolist())
    few = image_folder(Request(root=tmp_path, size=8, train_size=5, test_size=1))
    assert torch.equal(few.train.labels, raw.train.labels[:5])
    assert len(few.test) == 1


def test_image_folders_must_agree_on_the_classes(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 1)
    write_images(tmp_path / "test", 1)
    (tmp_path / "test" / "red").rename(tmp_path / "test" / "rouge")
    with pytest.raises(DataError, match="differ in the classes red, rouge"):
        load_data("imagefolder", root=tmp_path)


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 1)
    write_images(tmp_path / "test", 1)
    (tmp_path / "train" / "red" / "0.png").unlink()
    with pytest.raises(DataError, match="Found no valid file for the classes red") as caught:
        load_data("imagefolder", root=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 1)
    write_images(tmp_path / "test", 1)
    (tmp_path / "train" / "red" / "0.png").write_text("not an image")
    with pytest.raises(DataError, match=r"train/red/0\.png cannot be read"):
        load_data("imagefolder", root=tmp_path)
