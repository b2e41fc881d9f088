"""The line of the user's model that is to blame: no line of torch, fxgrow or another library."""

import os
import sys
from collections.abc import Iterable, Set
from pathlib import Path
from types import FrameType, TracebackType

import torch
from torch import nn

Frames = Iterable[tuple[FrameType, int]]
"""Frames with the numbers of their lines, the innermost first."""

_FXGROW_FOLDER = f"{Path(sys.modules['fxgrow'].__file__ or '').parent}{os.sep}"
_TORCH_FOLDER = f"{Path(torch.__file__).parent}{os.sep}"
_NEVER = (_TORCH_FOLDER, _FXGROW_FOLDER, "<")
"""How the file names of torch, of fxgrow and of generated code begin."""

_OPERATOR_PACKAGES = frozenset({"torch", "einops", "opt_einsum"})
"""Packages whose lines say as little as those of torch, even where a layer of theirs runs."""

_INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders of installed packages."""


def packages_of(model: nn.Module) -> frozenset[str]:
    """The packages that a model is written in (``timm``), beside those of operators."""
    names = {type(module).__module__.partition(".")[0] for module in model.modules()}
    return frozenset(names - _OPERATOR_PACKAGES)


def running_frames() -> Frames:
    """The frames that run now, as far as they belong to the model that is observed."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _starts_observation(frame):
        yield frame, frame.f_lineno
        frame = frame.f_back


def frames_of(error: BaseException) -> Frames:
    """The frames through which an error came out of the model."""
    frames = []
    step: TracebackType | None = error.__traceback__
    while step is not None:
        frames.append((step.tb_frame, step.tb_lineno))
        step = step.tb_next
    return reversed(frames)


def user_line(frames: Frames, packages: Set[str]) -> str:
    """``file.py:line`` of the innermost line of the model's own code.

    Args:
        frames: the frames to choose from.
        packages: the installed packages that belong to the model.

    Returns:
        The line; "" if there is none.
    """
    for frame, number in frames:
        path = frame.f_code.co_filename
        if path.startswith(_NEVER):
            continue
        is_installed = not _INSTALLED.isdisjoint(Path(path).parts)
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if not is_installed or package in packages:
            return f"{Path(path).name}:{number}"
    return ""


def _starts_observation(frame: FrameType) -> bool:
    """Whether a frame is the one that runs the model; what called it is not the model's code."""
    code = frame.f_code
    return code.co_name == "run_once" and code.co_filename.startswith(_FXGROW_FOLDER)
