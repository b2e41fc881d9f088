"""Mixed precision: training steps in 16 bits, where that loses nothing that matters.

Reference: Micikevicius et al., "Mixed Precision Training", ICLR 2018: weights and their updates
stay in 32 bits, matrix products run in 16 bits, and the loss is scaled so that small gradients do
not become 0. ``torch.autocast`` and ``torch.amp.GradScaler`` do it.

How we differ: growth steps and evaluations are in full precision, as their checks compare outputs.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from fxgrow.errors import TrainingError
from fxgrow.kernel_guard import require_bfloat16_gradients
from fxgrow.memory import device_of
from fxgrow.randomness import kept_random_states
from fxgrow.training.sgd import clip_gradients

PrecisionName = Literal["float32", "bfloat16", "float16"]
"""What matrix products of a training step are computed in."""

_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Precision:
    """How the passes of a training step are computed.

    Args:
        device: where.
        dtype: of matrix products and convolutions; None: as the model has it.
        scaler: scales losses; one that is off gives everything through.
    """

    device: torch.device
    dtype: torch.dtype | None
    scaler: GradScaler

    def autocast(self) -> AbstractContextManager[object]:
        """The context of a forward pass; nothing changes in full precision."""
        if self.dtype is None:  # and an autocast of the caller's goes on
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of a loss, scaled if need be."""
        self.scaler.scale(loss).backward()

    def step(self, optimizer: Optimizer, clip: float | None) -> None:
        """Clip the gradients, and take a step; gradients that overflow are left out."""
        if clip is not None:
            self.scaler.unscale_(optimizer)
            clip_gradients(optimizer, clip)
        self.scaler.step(optimizer)
        self.scaler.update()


def precision_of(name: PrecisionName, model: nn.Module) -> Precision:
    """The precision of that name on the device of a model."""
    device = device_of(model) or _CPU
    dtype = None if name == "float32" else getattr(torch, name)
    # bfloat16 has the exponents of float32, so nothing becomes 0 that was not.
    scaler = GradScaler(device.type, enabled=name == "float16")
    return Precision(device, dtype, scaler)


def copy_precision(precision: Precision) -> Precision:
    """The same with a scaler of its own, from where that one is."""
    scaler = GradScaler(precision.device.type, enabled=precision.scaler.is_enabled())
    scaler.load_state_dict(precision.scaler.state_dict())
    return Precision(precision.device, precision.dtype, scaler)


def require_precision(name: PrecisionName, model: nn.Module, images: Tensor) -> None:
    """Check that the device of a model computes in a precision.

    Args:
        name: of the precision.
        model: what is trained.
        images: an image or two.

    Raises:
        TrainingError: ``bad-setting``.
        ModelError: ``unsafe-convolution``: in bfloat16 a gradient would not be sound.
    """
    device = device_of(model) or _CPU
    if name == "float16" and device.type != "cuda":
        raise TrainingError(
            "bad-setting",
            f"precision=float16 is for GPUs, and this run computes on {device.type}; give bfloat16",
        )
    if name == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise TrainingError(
            "bad-setting",
            f"{torch.cuda.get_device_name(device)} does not compute in bfloat16; give float16",
        )
    if name == "bfloat16" and device.type == "cpu":
        with kept_random_states():
            require_bfloat16_gradients(model, images)
