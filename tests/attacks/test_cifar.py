"""CIFAR files that a stranger made: a pickle is a program, and some programs run no function and still do harm."""

import contextlib
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fxgrow.data.folders import CIFAR10, CIFAR_BYTES
from fxgrow.data.pickles import _MAX_OPERATIONS, NotDataError, unpickle_data
from tests.attacks.attacking import CANARY
from tests.attacks.hostile_data import assert_refused
from tests.data.test_folders import write_cifar

VICTIM = "data_batch_3"
PIXELS = np.zeros((2, 3072), np.uint8)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    write_cifar(tmp_path, CIFAR10)
    return tmp_path / CIFAR10.folder / VICTIM


def refused(victim: Path, code: str = "wrong-format") -> str:
    return str(assert_refused(victim.parents[1], code, victim.name, "cifar10"))


def link(path: Path) -> None:
    path.rename(path.parents[2] / "real")
    path.symlink_to(path.parents[2] / "real")


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def hole(path: Path) -> None:
    os.truncate(path, 2**40)


def just_too_large(path: Path) -> None:
    os.truncate(path, CIFAR_BYTES + 1)


FILES: tuple[tuple[Callable[[Path], None], str], ...] = (
    (link, "symlink"),
    (device, "symlink"),
    (link_to_itself, "symlink"),
    (pipe, "not-a-file"),
    (folder, "not-a-file"),
    (hole, "too-large"),
    (just_too_large, "too-large"),
    (Path.unlink, "missing-file"),
)


@pytest.mark.parametrize(("damage", "code"), FILES, ids=[damage.__name__ for damage, _ in FILES])
def test_a_file_that_is_something_else(
    damage: Callable[[Path], None], code: str, victim: Path
) -> None:
    damage(victim)
    refused(victim, code)


def test_a_folder_that_is_a_link(victim: Path) -> None:
    victim.parent.rename(victim.parents[1] / "real")
    victim.parent.symlink_to("real")
    assert_refused(victim.parents[1], "symlink", CIFAR10.folder, "cifar10")


class Reduced:
    """Whatever it is told, when it is unpickled."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


RECONSTRUCT = named("numpy.core.multiarray", "_reconstruct")
NDARRAY = named("numpy", "ndarray")
DTYPE = named("numpy", "dtype")
START, END = b"\x80\x02", b"."
HUGE = b"\x8a\x06" + (2**40).to_bytes(6, "little")
EMPTY_ARRAY = RECONSTRUCT + b"(" + NDARRAY + b"K\x00\x85U\x01btR"
BYTES_TYPE = DTYPE + b"(U\x02u1K\x00K\x01tR"


def array(shape: bytes, kind: bytes, raw: bytes) -> bytes:
    """An array whose parts are instructions."""
    return EMPTY_ARRAY + b"(K\x01" + shape + kind + b"\x89" + raw + b"tb"


def text(content: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(content)) + content


def many(count: int, instruction: bytes) -> bytes:
    return START + instruction * count + END


BIG_END_FIRST = b"(K\x03U\x01>NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
# Each holds the one before it nine times.
LISTS_IN_LISTS = b"]q\x00" + b"".join(
    b"](" + b"h%c" % (n - 1) * 9 + b"eq%c" % n for n in range(1, 90)
)

BOMBS: dict[str, bytes] = {
    "a function": pickle.dumps(Reduced(os.system, ("touch canary",)), 2),
    "a function by stack": pickle.dumps(Reduced(os.system, ("touch canary",)), 4),
    "a function of a module": START + named("builtins", "eval") + text(b"1") + b"\x85R.",
    "a dotted name": START + b"\x8c\x05numpy\x8c\x0fndarray.tofile\x93.",
    "an instance": b"(ios\nsystem\n.",
    "an object": START + b"(" + named("os", "system") + text(b"touch canary") + b"o.",
    "a new object": START + NDARRAY + HUGE + b"\x85\x81.",
    "an extension": START + b"\x82\x01.",
    "a persistent object": b"Ptouch canary\n.",
    "a put far away": START + b"Nr\xff\xff\xff\x7f0.",
    "a put far away, as text": b"Np999999999999\n0.",
    "a get of nothing": START + b"h\x07.",
    "a huge frame": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N.",
    "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"N.",
    "huge text": START + b"X" + struct.pack("<I", 2**31) + b"N.",
    "a huge bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"N.",
    "a huge number": START + b"\x8b" + struct.pack("<i", 2**30) + b"N.",
    "a long number as text": b"L" + b"9" * 2**20 + b"L\n.",
    "no end": START + b"]" * 100,
    "a pop of nothing": START + b"0.",
    "an end without a value": START + END,
    "a mark and nothing": START + b"t.",
    "many marks": START + b"(" * 50_000 + b"t.",
    "nested tuples as a key": START + b"}" + b")" + b"\x85" * 50_000 + b"Ns.",
    "nested lists": START + b"]" * 50_000 + b"a" * 49_999 + b".",
    "lists in lists, remembered": START + LISTS_IN_LISTS + END,
    "a huge empty array": START + RECONSTRUCT + b"(" + NDARRAY + HUGE + b"\x85U\x01btR.",
    "an array by its class": START + NDARRAY + HUGE + b"\x85\x85R.",
    "an array of a huge shape": START + array(HUGE + b"\x85", BYTES_TYPE, text(b"")) + END,
    "an array of a negative shape": START + array(b"J\xff\xff\xff\xff\x85", BYTES_TYPE, text(b"")) + END,
    "an array of a wide shape": START + array(HUGE + HUGE + HUGE + b"\x87", BYTES_TYPE, text(b"")) + END,
    "an array of objects": START + array(b"K\x01\x85", DTYPE + b"(U\x02O8K\x00K\x01tR", b"]Na") + END,
    "an array of huge texts": START + array(b"K\x00\x85", DTYPE + b"(U\x0bS2147483647K\x00K\x01tR", text(b"")) + END,
    "an array filled with a number": START + array(b"K\x01\x85", BYTES_TYPE, b"K\x01") + END,
    "an array filled again and again": START + text(b"x" * 2**20) + b"q\x000"
    + array(b"K\x00\x85", BYTES_TYPE, text(b"")) + b"(NNNNh\x00tb" * 1000 + END,
    "text to bytes, again and again": START + b"X" + struct.pack("<I", 2**20) + b"x" * 2**20 + b"U\x06latin1\x86q\x000"
    + (named("_codecs", "encode") + b"h\x00R0") * 1000 + b"N.",
    "text that is packed": START + named("_codecs", "encode") + text(b"x") + text(b"zip") + b"\x86R.",
    "a state for a function": START + NDARRAY + b"}" + text(b"a") + b"Nsb.",
    "a state for a list": START + b"]}b.",
    "a type with fields": START + DTYPE + b"(" + text(b"u1,u1") + b"K\x00K\x01tR.",
    "a type of another order": START + array(b"K\x01\x85", BYTES_TYPE + BIG_END_FIRST, text(b"x")) + END,
    "a call of data": START + b"])R.",
    "a number as the list": START + b"K\x01Na.",
    "a key without a value": START + b"}(" + text(b"a") + b"u.",
    "labels that are huge": pickle.dumps({"data": PIXELS, "labels": [2**200, 1]}, 2),
    "labels that are no numbers": pickle.dumps({"data": PIXELS, "labels": [True, 1.0]}, 2),
    "labels in lists": pickle.dumps({"data": PIXELS, "labels": [[0], [1]]}, 2),
    "pixels that are no array": pickle.dumps({"data": [[0] * 3072] * 2, "labels": [0, 1]}, 2),
    "an array that was never filled": START + b"}" + text(b"data") + EMPTY_ARRAY + b"s" + text(b"labels") + b"]s.",
    "no dictionary": pickle.dumps(PIXELS, 2),
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused_as_data(bomb: str, victim: Path) -> None:
    victim.write_bytes(BOMBS[bomb])
    refused(victim)


def test_more_instructions_than_any_archive_has_are_refused() -> None:
    with pytest.raises(NotDataError, match=f"more than {_MAX_OPERATIONS} instructions"):
        unpickle_data(many(_MAX_OPERATIONS + 1, b"N"))


def test_every_cut_and_every_flipped_bit_is_read_or_refused() -> None:
    sound = pickle.dumps(
        {"data": np.arange(6, dtype=np.uint8), "labels": [1, 2**40, -3], "name": "x"}, 2
    )
    damaged = [sound[:end] for end in range(len(sound))]
    for place in range(len(sound)):
        for bit in range(8):
            flipped = bytearray(sound)
            flipped[place] ^= 1 << bit
            damaged.append(bytes(flipped))
    read = 0
    for data in damaged:
        with contextlib.suppress(NotDataError):
            unpickle_data(data)
            read += 1
    assert 0 < read < len(damaged)
    assert not CANARY.exists()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_is_data_is_read_as_pickle_reads_it(protocol: int, order: Any) -> None:
    values = {
        "data": np.asarray(np.arange(12, dtype=np.int16).reshape(3, 4), order=order),
        "labels": [0, 1, 255, 256, 2**16, 2**40, -1],
        "all": [
            None,
            True,
            False,
            1.5,
            "é",
            b"\xff",
            (),
            (1,),
            (1, 2),
            (1, 2, 3),
            (1, 2, 3, 4),
            {},
            [[]],
        ],
    }
    found = unpickle_data(pickle.dumps(values, protocol))
    assert np.array_equal(found.pop("data").values, values["data"])
    del values["data"]
    assert found == values
