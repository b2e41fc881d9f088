"""The user's line is found among those of libraries."""

import sys
from types import FrameType
from typing import Any

import pytest
import torch
from torch import nn

from fxgrow.user_lines import frames_of, packages_of, user_line


def frames_in(*files: str) -> list[tuple[FrameType, int]]:
    """Frames of functions that were compiled as parts of these files, the innermost first."""
    found = []
    for number, file in enumerate(files):
        name = "timm.layers" if "timm" in file else "somewhere"
        scope: dict[str, Any] = {"__name__": name, "frame": lambda: sys._getframe(1)}
        exec(compile("\n" * number + "def f(): return frame()", file, "exec"), scope)
        found.append((scope["f"](), number + 1))
    return found


SITE = "/opt/lib/python3/site-packages"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ((torch.__file__, "/home/me/model.py", "/home/me/outer.py"), "model.py:2"),
        ((f"{SITE}/einops/ops.py", "<string>", "/home/me/model.py"), "model.py:3"),
        ((f"{SITE}/timm/layers/norm.py", "/home/me/model.py"), "norm.py:1"),
        ((torch.__file__, "<eval>"), ""),
    ],
)
def test_the_innermost_line_of_the_model(files: tuple[str, ...], expected: str) -> None:
    assert user_line(frames_in(*files), frozenset({"timm"})) == expected


def test_packages_of_a_model() -> None:
    class Own(nn.Module):
        """A module of this file."""

    assert packages_of(nn.Sequential(nn.Linear(1, 1), Own())) == {"tests"}


def test_frames_of_an_error() -> None:
    def inner() -> None:
        torch.zeros(2).view(3)

    with pytest.raises(RuntimeError) as caught:
        inner()
    line = inner.__code__.co_firstlineno + 1
    assert user_line(frames_of(caught.value), frozenset()) == f"test_user_lines.py:{line}"
