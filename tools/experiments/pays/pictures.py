"""Problems of classifying CIFAR-10's images, for the paper's experiments."""

import copy
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from tools.experiments.pays.task import Batch, Problem, mean_loss
from tools.experiments.pays.tasks import cifar, forever

BATCH = 64
HELD_OUT = 5000
"""Training images that are set aside: losses right before and after growth, and tuning."""
BRIEFLY = 2000
"""Images that are enough for a point of a curve."""
STATISTICS = 16
"""Batches that statistics of batch norms are re-estimated on before a held-out loss."""


def share_wrong(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of the images that are not classified right."""
    return (logits.argmax(1) != labels).float().mean()


def flipped(batches: Iterator[Batch], seed: int) -> Iterator[Batch]:
    """Every image left to right with probability 1/2."""
    generator = torch.Generator().manual_seed(seed)
    for images, labels in batches:
        is_flipped = torch.rand(len(images), generator=generator) < 0.5
        yield torch.where(is_flipped[:, None, None, None], images.flip(3), images), labels


def classification(seed: int, size: int, is_tuning: bool) -> Problem:
    """CIFAR-10 with flips; errors are shares of wrong images.

    Args:
        seed: of the order of the images and of their flips.
        size: height and width of the images.
        is_tuning: whether errors are those of the held-out images, so that the test images choose
            no learning rate.
    """
    images, labels, test_images, test_labels = cifar(size)
    train_images, train_labels = images[:-HELD_OUT], labels[:-HELD_OUT]
    held_images, held_labels = images[-HELD_OUT:], labels[-HELD_OUT:]
    judged = (held_images, held_labels) if is_tuning else (test_images, test_labels)
    fixed = list(islice(forever(train_images, train_labels, BATCH, seed), STATISTICS))

    def error(model: nn.Module) -> float:
        return mean_loss(model, share_wrong, judged[0][:BRIEFLY], judged[1][:BRIEFLY])

    def accuracy(model: nn.Module) -> float:
        return 1 - mean_loss(model, share_wrong, *judged)

    def held_out_loss(model: nn.Module) -> float:
        # Re-estimated statistics: those of training lag behind the weights.
        anew = copy.deepcopy(model)
        update_bn(fixed, anew)
        return mean_loss(anew, F.cross_entropy, held_images[:BRIEFLY], held_labels[:BRIEFLY])

    train = flipped(forever(train_images, train_labels, BATCH, seed), seed)
    return Problem(train, F.cross_entropy, error, accuracy, held_out_loss)
