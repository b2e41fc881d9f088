"""Damaged histories of growth: replayed, as ``fxgrow replay`` does."""

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.errors import SpecError
from fxgrow.growth.replay import replay
from fxgrow.methods import Firefly
from fxgrow.spec import read_spec
from fxgrow.training.network import capture_network as described
from tools.fuzzing.damage import Damaged, values_damaged
from tools.fuzzing.verdicts import Verdict, verdict_of

CONFIG = "config.json"
FIRST = "first"


def bases(seed: int) -> tuple[tuple[Any, Any], ...]:
    """First and grown architectures as JSON data: wider twice, and wider and deeper once."""
    torch.manual_seed(seed)
    flat = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    deep = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip
    return _grown(flat, torch.randn(8, 3), 2, 0), _grown(deep, torch.randn(8, 3, 6, 6), 1, 1)


def _grown(model: nn.Module, images: Tensor, steps: int, layers: int) -> tuple[Any, Any]:
    labels = torch.arange(8) % 2
    first = described(model.eval(), (images[:1],))
    module, history = model, ()
    with tempfile.TemporaryDirectory() as directory:
        fxgrow.spec.save(first.graph_module, Path(directory) / "a", first.spec)
        for _ in range(steps):
            growth = fxgrow.grow(
                module, [(images, labels)], nn.functional.cross_entropy, example_inputs=(images[:1],), history=history,
                method=Firefly(new=2, steps=1, refine_steps=0, layers=layers), budget=fxgrow.Budget(neurons=4),
            )  # fmt: skip
            module, history = growth.module, growth.spec.history
        fxgrow.save(growth, Path(directory) / "b")
        begun, ended = (json.loads((Path(directory) / name / CONFIG).read_text()) for name in "ab")
    return begun, ended


def mutate(base: tuple[Any, Any], rng: random.Random) -> Damaged:
    """A history with one to three values changed."""
    first, grown = base
    changed, done = values_damaged(grown, rng, ("history",))
    files = {FIRST: json.dumps(first).encode(), CONFIG: json.dumps(changed).encode()}
    return Damaged(files, done)


def judge(made: Damaged, directory: Path) -> Verdict:
    """Whether a history gives the grown architecture, or is refused."""
    (directory / FIRST).mkdir(exist_ok=True)
    (directory / FIRST / CONFIG).write_bytes(made.files[FIRST])
    (directory / CONFIG).write_bytes(made.files[CONFIG])

    def attempt() -> bool:
        start, grown = read_spec(directory / FIRST), read_spec(directory)
        specs = replay(start, grown.history)
        if not specs or specs[-1].fingerprint != grown.fingerprint:
            raise SpecError("not-replayable", "it leads elsewhere", str(directory))
        return True

    return verdict_of(attempt, SpecError)
