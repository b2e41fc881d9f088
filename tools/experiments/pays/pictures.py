"""Problems of classifying CIFAR-10's images, for the paper's experiments."""

import argparse
import copy
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from tools.experiments.pays.data import cifar, flipped, forever, share_wrong
from tools.experiments.pays.task import Problem, Task, cosine_of_stage, mean_loss

BATCH = 64
HELD_OUT = 5000
"""Training images that are set aside: losses right before and after growth, and tuning."""
BRIEFLY = 2000
"""Images that are enough for a point of a curve."""
STATISTICS = 16
"""Batches that statistics of batch norms are re-estimated on before a held-out loss."""


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


RATES = (0.02, 0.05, 0.1)
TUNING_SEED = 900
TUNING_SHARE = 0.25
"""Of the FLOPs of a run, for those that choose learning rates."""
NESTEROV = partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=1e-4)


def steps_of(epochs: float) -> int:
    """Training steps of so many epochs."""
    return max(1, round(epochs * (50_000 - HELD_OUT) / BATCH))


def picture_task(
    name: str,
    make: Callable[[int], nn.Module],
    chosen: argparse.Namespace,
    widths: tuple[int, ...],
    arms: Sequence[str],
    full: Callable[[], nn.Module] | None = None,
    neurons_per_unit: int | None = None,
) -> Task:
    """A task on these images: equal shares of the FLOPs for all sizes, a cosine for each.

    Args:
        name: in results.
        make: a network of a size.
        chosen: the options (``sizes.options``).
        widths: the sizes that it passes.
        arms: what is compared, the reference first.
        full: a network of full size.
        neurons_per_unit: as of ``Task``.
    """

    def draw(seed: int) -> Problem:
        return classification(seed, chosen.size, is_tuning=seed == TUNING_SEED)

    return Task(
        name,
        make,
        draw,
        widths=widths,
        steps=steps_of(chosen.epochs),
        rates=(chosen.rate,) if chosen.rate else RATES,
        optimizer=NESTEROV,
        growth_ends=(len(widths) - 1) / len(widths),
        arms=tuple(chosen.arms or arms),
        rate_at=cosine_of_stage,
        full=full,
        tuning_steps=steps_of(TUNING_SHARE * chosen.epochs),
        neurons_per_unit=neurons_per_unit,
        tuning_seeds=(TUNING_SEED,),
    )
