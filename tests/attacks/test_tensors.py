"""Weights files that are cut, overlap, claim too much, or hold other tensors than the config says.

The digest in the config is made to fit, as an attacker would.
"""

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.attacking import assert_refused, written
from tools.fuzzing.bases import Base

Header = dict[str, Any]
FILE = "model.safetensors"


def parts(weights: bytes) -> tuple[Header, bytes]:
    size = struct.unpack("<Q", weights[:8])[0]
    return json.loads(weights[8 : 8 + size]), weights[8 + size :]


def joined(header: Header, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def header(change: Callable[[Header], object]) -> Callable[[bytes], bytes]:
    def damage(weights: bytes) -> bytes:
        found, data = parts(weights)
        change(found)
        return joined(found, data)

    return damage


def entry(**values: Any) -> Callable[[bytes], bytes]:
    """Another record of one tensor."""
    return header(lambda found: found["a.bias"].update(values))


def overlapping(found: Header) -> None:
    found["a.bias"]["data_offsets"] = found["b.bias"]["data_offsets"]


def more(found: Header) -> None:
    found["extra"] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


def renamed(found: Header) -> None:
    found["../../a"] = found.pop("a.bias")


def flipped(weights: bytes) -> bytes:
    return weights[:-1] + bytes([weights[-1] ^ 1])


ATTACKS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "too-large"),
    "half": (lambda w: w[: len(w) // 2], "bad-weights"),
    "one byte short": (lambda w: w[:-1], "bad-weights"),
    "one byte more": (lambda w: w + b"\0", "bad-weights"),
    "a header of 2^63 bytes": (lambda w: struct.pack("<Q", 2**63) + w[8:], "bad-weights"),
    "a header as long as the file": (lambda w: struct.pack("<Q", len(w)) + w[8:], "bad-weights"),
    "a header in the other byte order": (lambda w: w[:8][::-1] + w[8:], "bad-weights"),
    "a header that is no JSON": (
        lambda w: struct.pack("<Q", 8) + b"notjson!" + w[8:],
        "bad-weights",
    ),
    "a pickle": (
        lambda w: (b"\x80\x04cposix\nsystem\n(S'touch canary'\ntR." + w)[: len(w)],
        "bad-weights",
    ),
    "a zip as torch.save writes it": (lambda w: (b"PK\x03\x04" + w)[: len(w)], "bad-weights"),
    "overlapping tensors": (header(overlapping), "bad-weights"),
    "offsets beyond the end": (entry(data_offsets=[0, 2**40]), "bad-weights"),
    "offsets backwards": (entry(data_offsets=[16, 0]), "bad-weights"),
    "a shape that overflows": (entry(shape=[2**40, 2**40]), "bad-weights"),
    "a shape that needs more bytes": (entry(shape=[400]), "bad-weights"),
    "a negative shape": (entry(shape=[-4]), "bad-weights"),
    "an unknown dtype": (entry(dtype="object"), "bad-weights"),
    "a dtype of other size": (entry(dtype="F64"), "bad-weights"),
    "a dtype of the same size": (entry(dtype="I32"), "tensor-mismatch"),
    "a shape of the same size": (entry(shape=[2, 2]), "tensor-mismatch"),
    "a tensor more": (header(more), "missing-tensor"),
    "a tensor with a path for a name": (header(renamed), "missing-tensor"),
    "no metadata": (header(lambda found: found.pop("__metadata__")), "weights-mismatch"),
    "another fingerprint": (
        header(lambda found: found["__metadata__"].update(fingerprint="0" * 64)),
        "weights-mismatch",
    ),
    "metadata that is no text": (
        header(lambda found: found["__metadata__"].update(fingerprint=1)),
        "bad-weights",
    ),
}


@pytest.mark.parametrize(("damage", "code"), ATTACKS.values(), ids=ATTACKS.keys())
def test_it_is_refused(
    damage: Callable[[bytes], bytes], code: str, base: Base, tmp_path: Path
) -> None:
    weights = damage(base.weights)
    digest = {"sha256": hashlib.sha256(weights).hexdigest()}
    directory = written(
        base, tmp_path / "hostile", lambda config: config.update(weights=digest), seal=False
    )
    (directory / FILE).write_bytes(weights)
    assert_refused(directory, code, FILE)


def test_a_flipped_bit_is_found_by_the_digest_alone(base: Base, tmp_path: Path) -> None:
    directory = written(base, tmp_path / "hostile", lambda _: None, seal=False)
    (directory / FILE).write_bytes(flipped(base.weights))
    assert_refused(directory, "weights-mismatch", FILE)
