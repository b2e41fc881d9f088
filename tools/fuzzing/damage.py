"""Damage that any file can suffer: its bytes, and the values of its JSON."""

import contextlib
import copy
import random
from dataclasses import dataclass
from typing import Any

from tools.fuzzing.bases import places
from tools.fuzzing.mutations import MUTATIONS

Files = dict[str, bytes]
# Mutations of JSON values that know nothing of a specification.
VALUES = ("junk", "junk", "delete", "repeat", "swap", "transplant", "number", "number", "rename")
HUGE = (0, 1, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1)


@dataclass(frozen=True)
class Damaged:
    """The files of a damaged directory, by name, and what was done."""

    files: Files
    done: tuple[str, ...]


def bytes_damaged(data: bytes, rng: random.Random, end: int | None = None) -> tuple[bytes, str]:
    """``data`` with something changed before ``end``, and what."""
    changed = bytearray(data)
    kind = rng.choice(("flip", "flip", "cut", "drop", "insert", "overwrite", "number"))
    start = rng.randrange(max(1, min(len(data), end or len(data))))
    if kind == "flip" and data:
        changed[start] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del changed[start:]
    elif kind == "drop":
        del changed[start : start + rng.choice((1, 2, 8))]
    elif kind == "insert":
        changed[start:start] = rng.choice(
            (b"\0", b'"', b"{", b"[" * 99, b"\xff" * 4, rng.randbytes(8))
        )
    elif kind == "overwrite":
        changed[start : start + 8] = rng.randbytes(8)
    else:
        size, order = rng.choice((2, 4)), rng.choice(("little", "big"))
        changed[start : start + size] = (rng.choice(HUGE) % 256**size).to_bytes(size, order)
    return bytes(changed), kind


def values_damaged(
    data: Any, rng: random.Random, below: tuple[Any, ...] = ()
) -> tuple[Any, tuple[str, ...]]:
    """A copy of JSON data with one to three values changed that lie below a path, and how."""
    changed = copy.deepcopy(data)
    done = rng.choices(VALUES, k=rng.choice((1, 1, 1, 2, 3)))
    for name in done:
        # An earlier one may have taken away what this one needs.
        with contextlib.suppress(LookupError, TypeError, AttributeError, ValueError):
            inside = [
                place
                for place in places(changed)[1:]
                if place[: len(below)] == below and place != below
            ]
            MUTATIONS[name](rng, changed, rng.choice(inside))
    return changed, tuple(done)
