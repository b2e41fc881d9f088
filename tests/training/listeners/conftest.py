"""One real run, whose events every listener hears."""

import pytest
import torch
from torch import nn

from fxgrow.data import load_data
from fxgrow.growth import Budget
from fxgrow.methods import Firefly
from fxgrow.training import Event, MovingAverage, RunSettings, train_and_grow


@pytest.fixture(scope="session")
def events() -> tuple[Event, ...]:
    """Two epochs of four steps, a growth step in between that adds two neurons, and an average."""
    heard: list[Event] = []
    digits = load_data("digits", channels=1, size=8, train_size=97)
    torch.manual_seed(0)
    train_and_grow(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10)),
        digits,
        RunSettings(
            epochs=2,
            grow_steps=1,
            batch_size=25,
            growth_batches=4,
            accept_no_gain=True,
            ema=MovingAverage(decay=0.9),
        ),
        example_inputs=(digits.train.images[:1],),
        method=Firefly(new=2, steps=2, refine_steps=1),
        budget=Budget(neurons=2),
        listeners=[heard.append],
    )
    return tuple(heard)
