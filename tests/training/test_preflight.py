"""What cannot be granted is refused before the first training step, each kind in its own words."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fxgrow.data import Splits
from fxgrow.errors import FxgrowError
from fxgrow.growth import ALL_WIDTHS, Budget, Method, Scope
from fxgrow.methods import AutoGrow, Firefly, ZeroOutgoing
from fxgrow.training import (
    AtSteps,
    Augmentation,
    BatchDone,
    ByPromise,
    Checkpoints,
    Compilation,
    CosineRate,
    Event,
    EveryEpochs,
    MovingAverage,
    OnPlateau,
    RunSettings,
    train_and_grow,
)

SETTINGS = RunSettings(epochs=3, grow_steps=1, growth_batches=2, growth_batch_size=16)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 10),
    )


def hooked() -> nn.Module:
    model = nn.Sequential(network())
    model[0].register_forward_hook(lambda *_: None)
    return model


def vanishing() -> nn.Module:
    """Its last convolution goes over images of 1 x 1 in steps of 2."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Conv2d(1, 4, 3, 2, 1), nn.Flatten(), nn.Linear(4, 10)
    )


def frozen() -> nn.Module:
    return network().requires_grad_(requires_grad=False)


THREE, ZERO = Budget(neurons=3), ZeroOutgoing()


@dataclass(frozen=True)
class Impossible:
    """A request, and the code of its refusal."""

    code: str
    budget: Budget = THREE
    method: Method = ZERO
    scope: Scope = ALL_WIDTHS
    model: Callable[[], nn.Module] = network
    settings: dict[str, Any] = field(default_factory=dict)


IMPOSSIBLE = {
    "a budget that buys nothing": Impossible("empty-budget", Budget(parameters=3)),
    "a share of too little": Impossible("empty-budget", Budget(neurons=0.01)),
    "no width has room": Impossible("empty-budget", Budget(neurons=9, per_width=1, round_to=8)),
    "only a module that is not there": Impossible(
        "unknown-module", scope=Scope(only=("layer9.*",))
    ),
    "ignore a module that is not there": Impossible("unknown-module", scope=Scope(ignore=("x",))),
    "a tie of widths that are not there": Impossible("unknown-width", scope=Scope(tie=(("x*",),))),
    "a tie of one": Impossible("single-tie", scope=Scope(tie=(("0",),))),
    "a tie of unequal widths": Impossible("unequal-tie", scope=Scope(tie=(("0", "2"),))),
    "too little memory": Impossible("memory-bound", settings={"memory_limit": 100.0}),
    "nothing can grow": Impossible("nothing-growable", scope=Scope(ignore=("0", "2", "6"))),
    "layers in place of a module with a hook": Impossible(
        "hooked-module", Budget(neurons=99, layers=1), AutoGrow(layers=1), model=hooked
    ),
    "a promise of scores that are no gains": Impossible(
        "no-promise", settings={"grow_when": ByPromise()}
    ),
    "a layer form at no edge": Impossible(
        "no-edges", Budget(neurons=3, layers=1), Firefly(layers=2, at=("nowhere",))
    ),
    "a frozen model": Impossible("nothing-growable", model=frozen),
    "a crop larger than the image": Impossible(
        "bad-setting", settings={"augmentation": Augmentation(crop=9)}
    ),
    "float16 on the processor": Impossible("bad-setting", settings={"precision": "float16"}),
    "a bfloat16 without a gradient": Impossible(
        "unsafe-convolution", model=vanishing, settings={"precision": "bfloat16"}
    ),
    "a backend that there is not": Impossible(
        "bad-setting", settings={"compile": Compilation(backend="x")}
    ),
    "an average of a model with new layers": Impossible(
        "companion-layers",
        Budget(neurons=99, layers=1),
        AutoGrow(layers=1),
        settings={"ema": MovingAverage()},
    ),
    "a trigger that waits until the end": Impossible(
        "bad-setting", settings={"grow_when": EveryEpochs(epochs=3)}
    ),
    "a plateau longer than the run": Impossible(
        "bad-setting", settings={"grow_when": OnPlateau(patience=2)}
    ),
    "a step of the last epoch": Impossible(
        "bad-setting", settings={"grow_when": AtSteps(steps=(9, 10))}
    ),
    # Three epochs of four batches.
    "a warm-up as long as the run": Impossible(
        "bad-setting", settings={"schedule": CosineRate(warmup_steps=12)}
    ),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_the_impossible_is_refused_before_the_first_step(
    name: str, digits: Splits, tmp_path: Path
) -> None:
    asked, events = IMPOSSIBLE[name], list[Event]()
    with pytest.raises(FxgrowError) as caught:
        train_and_grow(
            asked.model(),
            digits,
            SETTINGS.model_copy(update=asked.settings),
            example_inputs=(digits.train.images[:1],),
            method=asked.method,
            budget=asked.budget,
            scope=asked.scope,
            listeners=[events.append],
            checkpoints=Checkpoints(tmp_path / "kept"),
        )
    assert caught.value.code == asked.code, caught.value
    assert not any(isinstance(event, BatchDone) for event in events)
    assert not (tmp_path / "kept").exists()


def test_looking_ahead_changes_nothing(digits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the check draws or runs: dropout, batch norms and the order of images stay."""

    def trained() -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Flatten(),
            nn.Linear(144, 10),
        )
        done = train_and_grow(
            model,
            digits,
            SETTINGS.model_copy(update={"epochs": 2}),
            example_inputs=(digits.train.images[:1],),
            method=ZeroOutgoing(),
            budget=Budget(neurons=1),
        )
        return done.final.module.state_dict()

    with_check = trained()
    monkeypatch.setattr("fxgrow.training.run.require_possible_run", lambda *_: None)
    without = trained()
    assert all(torch.equal(with_check[name], without[name]) for name in without)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_a_disk_without_room(digits: Splits, tmp_path: Path) -> None:
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", tmp_path), check=True)
    try:
        with pytest.raises(FxgrowError, match="free at") as caught:
            train_and_grow(
                network(),
                digits,
                SETTINGS,
                example_inputs=(digits.train.images[:1],),
                method=ZeroOutgoing(),
                budget=Budget(neurons=3),
                checkpoints=Checkpoints(tmp_path / "deep" / "kept"),
            )
        assert caught.value.code == "disk-full"
        assert not (tmp_path / "deep").exists()
    finally:
        subprocess.run(("umount", tmp_path), check=True)


@pytest.mark.parametrize(
    "trigger", [EveryEpochs(epochs=2), OnPlateau(patience=1), AtSteps(steps=(2, 99)), ByPromise()]
)
def test_a_trigger_that_may_ask_in_time(trigger: Any, digits: Splits) -> None:
    """It is not refused; whether it asks is seen on the way."""

    def stop(event: Event) -> None:
        if isinstance(event, BatchDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_and_grow(
            network(),
            digits,
            SETTINGS.model_copy(update={"grow_when": trigger}),
            example_inputs=(digits.train.images[:1],),
            method=Firefly(new=1),
            budget=THREE,
            listeners=[stop],
        )
