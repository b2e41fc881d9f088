"""Runs that two or four processes carry out together, and one alone. Run by ``test_shards.py``."""

import gc
import os
import shutil
import warnings
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from fxgrow import Budget, Firefly
from fxgrow.data import DataSet, Splits
from fxgrow.errors import FxgrowError
from fxgrow.methods import NASH, TINY, GradMax, ZeroOutgoing
from fxgrow.training import (
    AdamWSettings,
    AtEpochs,
    Augmentation,
    BatchDone,
    ByPromise,
    Checkpoints,
    CheckpointSaved,
    Compilation,
    EarlyStop,
    EpochDone,
    Event,
    MovingAverage,
    OnFullRank,
    OnPlateau,
    RunSettings,
    train_and_grow,
)

METHOD = Firefly(new=2, steps=2, refine_steps=1)


class Network(nn.Module):
    """A convolution, and a classifier of what it gives; without or with a batch norm and dropout."""

    def __init__(self, *, norm: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm: nn.Module = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.up, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm(self.conv(x))).mean((2, 3))
        scores: Tensor = self.head(torch.tanh(self.up(self.dropout(h))))
        return scores


class Experts(nn.Module):
    """Two heads: images that are bright use one, dark ones the other, and none a third."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(36, 3) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        bright = flat.mean(1, keepdim=True) > 0.1
        if not self.training:
            return torch.where(bright, self.first(flat), self.second(flat))
        scores, rows = flat.new_zeros(len(flat), 3), bright[:, 0]
        # Of a batch without such images a head has no gradient at all.
        for head, uses in ((self.first, rows), (self.second, ~rows)):
            if uses.any():
                scores = scores.index_put((uses,), head(flat[uses]))
        return scores


def data(images: int = 29) -> Splits:
    """Images [N, 1, 6, 6]; of batches of eight the last has five."""
    generator = torch.Generator().manual_seed(3)

    def part(count: int) -> DataSet:
        drawn = torch.randn(count, 1, 6, 6, generator=generator, dtype=torch.float64)
        return DataSet(drawn, torch.randint(3, (count,), generator=generator))

    return Splits("random", part(images), part(11), 3, (0.0,), (1.0,))


BASE: dict[str, Any] = {
    "epochs": 3, "grow_steps": 1, "batch_size": 8, "growth_batches": 3, "growth_batch_size": 7,
    "accept_no_gain": True, "lr": 0.1,
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"clip": 0.5, "label_smoothing": 0.1},
    "augmented": {"augmentation": Augmentation(flip=0.5, crop=1, mixup=0.4)},
    "averaged": {"ema": MovingAverage(decay=0.9), "optimizer": AdamWSettings(), "lr": 0.01},
    "plateau": {"grow_when": OnPlateau(patience=0, min_delta=0.5, of="validation_loss"), "validation": 0.2},
    "promise": {"grow_when": ByPromise()},
    "full rank": {"grow_when": OnFullRank(), "epochs": 4},
    "early stop": {
        "early_stop": EarlyStop(patience=0, min_delta=0.9), "validation": 0.2, "epochs": 6,
        "grow_when": AtEpochs(epochs=(1,)),
    },
    "compiled": {"compile": Compilation(backend="aot_eager")},
}  # fmt: skip


def settings(name: str) -> RunSettings:
    return RunSettings.model_validate({**BASE, **SETTINGS[name]})


def trained(
    model: Callable[[], nn.Module], asked: RunSettings, images: int = 29, **options: Any
) -> dict[str, Any]:
    """What a run comes to, and what it told."""
    torch.manual_seed(0)
    events: list[Event] = []
    splits = data(images)
    listeners = [events.append, *options.pop("listeners", ())]
    given = {"method": METHOD, "budget": Budget(neurons=2), "listeners": listeners, **options}
    run = train_and_grow(
        model().double(), splits, asked, example_inputs=(splits.train.images[:1],), **given
    )
    measured = [
        (e.loss, e.test_loss, e.validation_loss) for e in events if isinstance(e, EpochDone)
    ]
    return {
        "state": {name: tensor.clone() for name, tensor in run.final.module.state_dict().items()},
        "measured": measured,
        "batches": [e.loss for e in events if isinstance(e, BatchDone)],
        "growths": [record.epoch for record in run.records],
        "after": [run.after.train.loss, run.after.test.loss, run.after.test.accuracy],
        "control": [c.loss_before for c in run.controls],
        "events": len(events),
    }


def by_settings(name: str) -> dict[str, Any]:
    return trained(Network, settings(name))


def copied_at_epoch_two(kept: Path, event: Event) -> None:
    """Keep the checkpoints of the middle of a run."""
    if isinstance(event, CheckpointSaved) and event.epoch == 2 and not kept.exists():
        shutil.copytree(event.directory, kept)


def kept(folder: Path, name: str, model: Callable[[], nn.Module] = Network) -> dict[str, Any]:
    """A run that keeps checkpoints; those of its middle are copied to ``name``.middle."""
    listeners = [partial(copied_at_epoch_two, folder / f"{name}.middle")]
    asked = settings("augmented")
    return trained(model, asked, checkpoints=Checkpoints(folder / name), listeners=listeners)


def resumed(folder: Path, name: str, model: Callable[[], nn.Module] = Network) -> dict[str, Any]:
    """Go on with a copy of these, from the middle."""
    asked = settings("augmented")
    return trained(model, asked, checkpoints=Checkpoints(folder / f"{name}.middle"))


def refused(
    asked: dict[str, Any], model: Callable[[], nn.Module] = Network, **options: Any
) -> dict[str, Any]:
    events: list[Event] = []
    try:
        trained(
            model,
            RunSettings.model_validate({**BASE, **asked}),
            listeners=[events.append],
            **options,
        )
    except FxgrowError as error:
        stepped = any(isinstance(event, BatchDone) for event in events)
        return {"code": error.code, "message": str(error), "stepped": stepped}
    return {"code": "", "message": "", "stepped": True}


class Dies(Network):
    """Its process is killed in a training pass, or goes on."""

    passes = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training and torch.is_grad_enabled() and distributed.is_initialized():
            Dies.passes += 1
            if Dies.passes > 6 and distributed.get_rank() == 1:
                os._exit(0)
        return super().forward(x)


def other_seed(rank: int) -> dict[str, Any]:
    return refused({"seed": rank})


Case = Callable[[int, Path], dict[str, Any]]
NORMED = partial(Network, norm=True)
DROPPING = partial(Network, dropout=0.5)
SAME_AS_ONE: dict[str, Callable[[], dict[str, Any]]] = {
    **{name: partial(by_settings, name) for name in SETTINGS},
    # A last batch of two for four processes, and of three.
    "few": lambda: trained(Network, settings("plain"), images=26),
    "experts": lambda: trained(Experts, replace_growth()),
}
REFUSED: dict[str, Callable[[], dict[str, Any]]] = {
    "small batch": lambda: refused({"batch_size": 1}),
    "small batch for norms": lambda: refused({"batch_size": 3}, NORMED),
    "small growth batch": lambda: refused({"growth_batch_size": 1}),
    "nash": lambda: refused({}, method=NASH(children=2, steps=1)),
    "gradmax": lambda: refused({}, method=GradMax()),
    "tiny": lambda: refused({}, method=TINY()),
    "latency": lambda: refused({}, method=ZeroOutgoing(), budget=Budget(latency=1.5)),
}


def replace_growth() -> RunSettings:
    """Plain training: nothing of the experts can grow."""
    return RunSettings.model_validate({**BASE, "grow_steps": 0})


TOGETHER: dict[str, Case] = {
    **{
        name: partial(lambda case, rank, folder: case(), case) for name, case in SAME_AS_ONE.items()
    },
    **{name: partial(lambda case, rank, folder: case(), case) for name, case in REFUSED.items()},
    "other seed": lambda rank, folder: other_seed(rank),
    "norms": lambda rank, folder: trained(NORMED, settings("averaged")),
    "kept": lambda rank, folder: kept(folder, "kept"),
    "resumed from one": lambda rank, folder: resumed(folder, "one"),
    "dropping": lambda rank, folder: kept(folder, "dropping", DROPPING),
    "dropping resumed": lambda rank, folder: resumed(folder, "dropping", DROPPING),
    # Last: the group cannot be used after it.
    "killed": lambda rank, folder: refused({}, Dies),
}
BY_FOUR: dict[str, Case] = {
    **{
        name: partial(lambda case, rank, folder: case(), SAME_AS_ONE[name])
        for name in ("plain", "few", "experts")
    },
    "resumed from two": lambda rank, folder: resumed(folder, "kept"),
}


def run_rank(rank: int, folder: Path, count: int, cases: dict[str, Case]) -> None:
    """Run every case in one of some processes, and write what came of it."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder / f'store{count}'}",
        rank=rank,
        world_size=count,
        timeout=timedelta(seconds=60),
    )
    for name, case in cases.items():
        torch.save(case(rank, folder), folder / f"{name}-{rank}-of-{count}")
    # Threads of a group that wrappers in cycles still hold could abort Python while it ends.
    gc.collect()
    distributed.destroy_process_group()


def run_one_of_two(rank: int, folder: Path) -> None:
    run_rank(rank, folder, 2, TOGETHER)


def run_one_of_four(rank: int, folder: Path) -> None:
    run_rank(rank, folder, 4, BY_FOUR)
