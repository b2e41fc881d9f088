"""Mixed precision: training steps are in 16 bits, everything else is not, and scaling changes nothing."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from fxgrow.data import Splits
from fxgrow.errors import FxgrowError
from fxgrow.growth import Budget
from fxgrow.methods import ZeroOutgoing
from fxgrow.training import Event, RunSettings, cross_entropy, train_and_grow, train_epoch
from fxgrow.training.precision import Precision, copy_precision, precision_of, require_precision

SETTINGS = RunSettings(
    epochs=2, grow_steps=1, batch_size=48, growth_batches=2, growth_batch_size=16, lr=0.05,
    accept_no_gain=True,
)  # fmt: skip
SEEN: list[tuple[bool, torch.dtype]] = []


class Watched(nn.Module):
    """A network that notes in what precision it computes, in which mode."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 4), nn.Linear(4, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.first(images.flatten(1))
        if not isinstance(hidden, torch.fx.Proxy):
            note(self.training, hidden)
        result: Tensor = self.second(hidden.relu())
        return result


def note(training: bool, value: Tensor) -> None:
    # On meta tensors only memory is counted; a pass without gradients looks for faulty kernels.
    is_step = training and torch.is_grad_enabled()
    if not value.is_meta and (is_step or not training):
        SEEN.append((training, value.dtype))


torch.fx.wrap("note")


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_training_steps_alone_are_in_16_bits(digits: Splits, name: str) -> None:
    SEEN.clear()
    done = train_and_grow(
        Watched(),
        digits,
        SETTINGS.model_copy(update={"precision": name}),
        example_inputs=(digits.train.images[:1],),
        method=ZeroOutgoing(),
        budget=Budget(neurons=2),
    )
    assert {dtype for training, dtype in SEEN if training} == {getattr(torch, name)}
    assert {dtype for training, dtype in SEEN if not training} == {torch.float32}
    assert {parameter.dtype for parameter in done.final.module.parameters()} == {torch.float32}


def step(model: nn.Module, precision: Precision | None, clip: float | None) -> Sequence[Tensor]:
    torch.manual_seed(0)
    model.load_state_dict(
        {name: torch.randn_like(value) for name, value in model.state_dict().items()}
    )
    batch = torch.randn(8, 64), torch.arange(8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    train_epoch(model, [batch], cross_entropy, optimizer, clip=clip, precision=precision)
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("clip", [None, 0.1, 1e9])
def test_a_scaled_loss_makes_the_same_step(clip: float | None) -> None:
    """Scaled by a power of two, which is exact; gradients are clipped after they are unscaled."""
    model, cpu = Watched(), torch.device("cpu")
    scaled = Precision(cpu, None, GradScaler("cpu", init_scale=2.0**10))
    for one, other in zip(step(model, None, clip), step(model, scaled, clip), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_a_copy_of_a_scaler_goes_on_by_itself() -> None:
    cpu = torch.device("cpu")
    first = Precision(cpu, None, GradScaler("cpu", init_scale=64.0))
    second = copy_precision(first)
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    second.backward((weight * torch.inf).sum())
    second.step(optimizer, clip=None)
    assert weight.item() == 1.0, "gradients that overflow are left out"
    assert (first.scaler.get_scale(), second.scaler.get_scale()) == (64.0, 32.0)


def test_an_autocast_of_the_caller_goes_on() -> None:
    SEEN.clear()
    model = Watched()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step(model, None, None)
    assert SEEN[-1] == (True, torch.bfloat16)
    assert precision_of("bfloat16", model).dtype is torch.bfloat16


def strided(side: int) -> tuple[nn.Module, Tensor]:
    model = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 8, 3, 2, 1), nn.Flatten())
    return model, torch.zeros(1, 1, side, side)


def test_convolutions_without_a_gradient_are_refused() -> None:
    require_precision("bfloat16", *strided(2))
    require_precision("float32", *strided(1))
    with pytest.raises(FxgrowError, match=r"^1, a convolution at stride \(2, 2\) on maps of 1 x 1"):
        require_precision("bfloat16", *strided(1))


def test_there_is_no_float16_on_the_processor(digits: Splits) -> None:
    events: list[Event] = []
    with pytest.raises(FxgrowError, match="float16 is for GPUs") as caught:
        train_and_grow(
            Watched(),
            digits,
            SETTINGS.model_copy(update={"precision": "float16"}),
            example_inputs=(digits.train.images[:1],),
            method=ZeroOutgoing(),
            budget=Budget(neurons=2),
            listeners=[events.append],
        )
    assert (caught.value.code, events) == ("bad-setting", [])


@pytest.mark.parametrize("name", ["half", 16, None])
def test_other_names(name: Any) -> None:
    with pytest.raises(FxgrowError, match="precision"):
        RunSettings(precision=name)
