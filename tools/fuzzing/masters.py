"""Damaged master networks: loaded, and every task's network read out."""

import hashlib
import json
import random
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from fxgrow.continual import Master, MasterSettings, TrainSettings
from fxgrow.continual.storage import RECORD, TENSORS, load_master, save_master
from fxgrow.errors import SpecError
from fxgrow.growth import Budget
from tools.fuzzing.damage import Damaged, bytes_damaged, values_damaged
from tools.fuzzing.verdicts import Verdict, verdict_of

HEADER = 600
"""Bytes at the start of a tensor file where damage is interesting."""


class Saved(NamedTuple):
    """The record as JSON data, and the bytes of the tensors."""

    record: Any
    tensors: bytes


def bases(seed: int) -> tuple[Saved, ...]:
    """Master networks of no task and of two."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)
    )
    settings = MasterSettings(train=TrainSettings(epochs=1, batch_size=8), growth_batches=1)
    master = Master(net.eval(), torch.randn(2, 3), settings=settings)
    empty = _saved(master)
    for task in ("a", "b"):
        batches = [(torch.randn(8, 3), torch.arange(8) % 2)]
        master.learn(task, batches, batches, classes=2, budget=Budget(neurons=2))
    return empty, _saved(master)


def _saved(master: Master) -> Saved:
    with tempfile.TemporaryDirectory() as directory:
        save_master(master, Path(directory) / "m")
        record = json.loads((Path(directory) / "m" / RECORD).read_text())
        return Saved(record, (Path(directory) / "m" / TENSORS).read_bytes())


def mutate(base: Saved, rng: random.Random) -> Damaged:
    """One of both files changed; mostly the digest is made to fit, as anyone can who knows the format."""
    record, tensors = base
    kind = rng.choice(("record", "record", "tensors", "bytes"))
    if kind == "record":
        record, done = values_damaged(record, rng)
    elif kind == "tensors":
        tensors, done = tensors_damaged(tensors, rng)
    elif rng.random() < 0.5:
        tensors, what = bytes_damaged(tensors, rng, HEADER)
        done = (what,)
    else:
        text, what = bytes_damaged(json.dumps(record).encode(), rng)
        return Damaged({RECORD: text, TENSORS: tensors}, (what,))
    if isinstance(record, dict) and kind != "record" and rng.random() < 0.9:
        record = {**record, "tensors": hashlib.sha256(tensors).hexdigest()}
        done = (*done, "seal")
    return Damaged({RECORD: json.dumps(record).encode(), TENSORS: tensors}, done)


def tensors_damaged(data: bytes, rng: random.Random) -> tuple[bytes, tuple[str, ...]]:
    held = load(data)
    name = rng.choice(sorted(held))
    kind = rng.choice(list(TENSOR_CHANGES))
    changed = TENSOR_CHANGES[kind](held[name], rng)
    if kind == "rename":
        held[f"{name}x"] = held.pop(name)
    elif kind == "remove":
        del held[name]
    else:
        held[name] = changed.contiguous()
    return save(held), (f"tensor {kind}",)


def _flipped(tensor: Tensor, rng: random.Random) -> Tensor:
    raw = tensor.contiguous().reshape(-1).view(torch.uint8).clone()
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return raw.view(tensor.dtype).reshape(tensor.shape)


TENSOR_CHANGES: dict[str, Any] = {
    "remove": lambda x, _: x,
    "rename": lambda x, _: x,
    "empty": lambda x, _: x[:0].clone() if x.ndim else x,
    "flatten": lambda x, _: x.reshape(-1),
    "twice": lambda x, _: torch.cat([x, x]) if x.ndim else x[None],
    "type": lambda x, rng: x.to(
        rng.choice((torch.float16, torch.uint8, torch.int64, torch.bool, torch.float64))
    ),
    "zero": lambda x, _: torch.zeros_like(x),
    "nan": lambda x, _: (
        torch.full_like(x, float("nan")) if x.is_floating_point() else torch.full_like(x, 255)
    ),
    "flip": _flipped,
}


def judge(made: Damaged, directory: Path) -> Verdict:
    """Whether a master network and all its tasks are read, or refused."""
    for name, data in made.files.items():
        (directory / name).write_bytes(data)

    def attempt() -> bool:
        master = load_master(directory)
        return all(isinstance(master.network(task), nn.Module) for task in master.tasks)

    return verdict_of(attempt, SpecError)
