"""A sound image folder to damage, and the proof that loading it gives one sentence, in no time."""

import os
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from fxgrow.data import Splits, load_data
from fxgrow.errors import DataError
from tests.attacks.attacking import CANARY, within_a_second

COLOURS = {"blue": (0, 0, 255), "red": (255, 0, 0)}
SIZE = 8
# Python's own memory; what libraries take in C is not seen.
MOST_MEMORY = 64 * 2**20

Damage = Callable[[Path], object]


def write_pictures(root: Path) -> Path:
    """``root``, with one picture per class and split."""
    image = pytest.importorskip("PIL.Image")
    for split in ("train", "test"):
        for name, colour in COLOURS.items():
            (root / split / name).mkdir(parents=True)
            image.new("RGB", (9, 7), colour).save(root / split / name / "0.png")
    return root


def loaded(root: Path, name: str = "imagefolder") -> Splits:
    """The data, in no time and without a warning."""
    with within_a_second(), warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_data(name, root=root, size=SIZE)


def assert_refused(root: Path, code: str, offender: str, name: str = "imagefolder") -> DataError:
    """Loading raises DataError with this code, naming the offender, within a second, and touches nothing."""
    with within_a_second():
        caught = _refusal(root, name)
    # Once more: counting memory takes longer than all else.
    tracemalloc.start()
    _refusal(root, name)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < MOST_MEMORY
    message = str(caught)
    assert caught.code == code, message
    assert offender in message
    assert message.isprintable()
    assert ";" in message, "there is no fix"
    assert len(message) < 1500
    assert not CANARY.exists()
    return caught


def _refusal(root: Path, name: str) -> DataError:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError) as caught:
            load_data(name, root=root, size=SIZE)
    return caught.value


def is_root() -> bool:
    """Whom no permission stops."""
    return os.geteuid() == 0
