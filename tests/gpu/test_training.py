"""Runs in 16 bits and compiled on a GPU."""

from typing import Any

import pytest
import torch
from torch import nn

from fxgrow.data import load_data
from fxgrow.growth import Budget
from fxgrow.methods import ZeroOutgoing
from fxgrow.training import Augmentation, Compilation, MovingAverage, RunSettings, train_and_grow

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

AUGMENTATION = Augmentation(flip=0.5, crop=1, rand_augment=2, erase=0.5, mixup=0.4)
FEATURES: list[dict[str, Any]] = [
    {"precision": "float16", "clip": 1.0, "ema": MovingAverage(decay=0.9)},
    {"precision": "bfloat16", "compile": Compilation()},
    {"augmentation": AUGMENTATION},
]


@pytest.mark.parametrize("features", FEATURES)
def test_a_run_learns_and_grows(features: dict[str, Any]) -> None:
    data = load_data("digits", channels=1, size=8).to("cuda")
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)
    ).cuda()
    done = train_and_grow(
        model,
        data,
        RunSettings(epochs=4, grow_steps=1, lr=0.05, **features),
        example_inputs=(data.train.images[:1],),
        method=ZeroOutgoing(),
        budget=Budget(neurons=4),
    )
    assert len(done.records) == 1 and done.after.test.accuracy > 0.6
