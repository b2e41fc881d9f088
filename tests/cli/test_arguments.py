"""What is said of options whose values are no settings, in one form for all of them."""

from typing import Any

import pytest

from fxgrow.cli.arguments import build_option, build_settings, build_trigger
from fxgrow.errors import TrainingError
from fxgrow.methods import Firefly
from fxgrow.training import Augmentation, MovingAverage, RunSettings


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (
            lambda: build_settings(RunSettings, lr=-1.0),
            "--lr -1.0 cannot be used: input should be greater than 0",
        ),
        (
            lambda: build_settings(RunSettings, precision="Half"),
            "--precision Half cannot be used: input should be 'float32', 'bfloat16' or 'float16'",
        ),
        (
            lambda: build_settings(RunSettings, lr=object()),
            "--lr a value of type object cannot be used: input should be a valid number",
        ),
        # Settings that contradict each other have no name of their own.
        (
            lambda: build_settings(Firefly, at=("0",)),
            "the options cannot be used: at and norm are about layers to insert, and layers=0",
        ),
        (
            lambda: build_option("ema", MovingAverage, decay=1.0),
            "--ema cannot be used with decay=1.0: input should be less than 1",
        ),
        (
            lambda: build_option("augment", Augmentation, magnitude=3),
            "--augment cannot be used: a magnitude has no effect without rand_augment",
        ),
        (
            lambda: build_trigger("OnPlateau?patience=-1"),
            "--grow-when OnPlateau cannot be used with patience=-1: input should be greater than",
        ),
        (
            lambda: build_trigger("OnPlateau?min_delta=2"),
            "--grow-when OnPlateau cannot be used: a loss cannot fall by a share of 1 or more",
        ),
    ],
)
def test_a_wrong_value_is_one_sentence(build: Any, sentence: str) -> None:
    with pytest.raises(TrainingError) as caught:
        build()
    assert caught.value.code == "bad-setting"
    assert str(caught.value).startswith(sentence)
