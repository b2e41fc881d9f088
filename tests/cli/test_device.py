"""``--device``: where a command computes. What works on a GPU is tested in ``tests/gpu``."""

from pathlib import Path

import pytest
import torch

from fxgrow.cli.arguments import resolve_device
from fxgrow.errors import TrainingError
from tests.cli.conftest import Fxgrow

COMMANDS = {
    "grow": ("grow", "tests.cli.models:tiny", "--neurons", "1", "--limit", "32"),
    "search": (
        "cells",
        "search",
        "--cells",
        "3",
        "--channels",
        "2",
        "--nodes",
        "1",
        "--size",
        "8",
        "--limit",
        "32",
    ),
    "train": (
        "cells",
        "train",
        "DARTS_V2",
        "--channels",
        "2",
        "--layers",
        "2",
        "--data",
        "digits",
        "--limit",
        "32",
    ),
    "stream": ("continual", "run", "--tasks", "2", "--size", "8", "--limit", "60"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_device_that_is_not_there(command: str, fxgrow: Fxgrow, tmp_path: Path) -> None:
    done = fxgrow(*COMMANDS[command], "--out", tmp_path / "out", "--device", "cuda:77")
    assert done.exit_code == 2
    assert done.stderr.startswith("fxgrow: --device cuda:77 cannot be computed on")
    assert done.stderr.rstrip().endswith("[no-device]") and done.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_names_of_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    for name in ("", "meta", "gpu", "cuda:-1"):
        with pytest.raises(TrainingError, match=f"--device {name} cannot"):
            resolve_device(name)
