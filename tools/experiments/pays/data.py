"""Batches of the experiments, and CIFAR-10."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from fxgrow.data import load_data
from tools.experiments.pays.task import Batch

DATA_ROOT = Path("runs/data")
"""Where ``cifar-10-batches-py`` lies."""


def forever(inputs: Tensor, targets: Tensor, size: int, seed: int) -> Iterator[Batch]:
    """Batches of ``size`` in a new random order in every epoch."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(inputs), generator=generator)
        for start in range(0, len(inputs) - size + 1, size):
            chosen = order[start : start + size]
            yield inputs[chosen], targets[chosen]


@lru_cache
def cifar(size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """CIFAR-10 of ``size`` x ``size`` pixels: training images and labels, those for the test."""
    split = load_data("cifar10", root=DATA_ROOT, size=size)
    return split.train.images, split.train.labels, split.test.images, split.test.labels


def share_wrong(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of the images that are not classified right."""
    return (logits.argmax(1) != labels).float().mean()


def flipped(batches: Iterator[Batch], seed: int) -> Iterator[Batch]:
    """Every image left to right with probability 1/2."""
    generator = torch.Generator().manual_seed(seed)
    for images, labels in batches:
        is_flipped = torch.rand(len(images), generator=generator) < 0.5
        yield torch.where(is_flipped[:, None, None, None], images.flip(3), images), labels
