"""What a classifier says, and how often it is right."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxgrow.errors import DataError, ModelError
from fxgrow.growth import Batch, LossFunction
from fxgrow.modes import evaluation_mode

AUXILIARY_WEIGHT = 0.4
"""Of the loss of a classifier that only helps to train (Liu et al. 2019, App. A.2)."""


@dataclass(frozen=True)
class Evaluation:
    """Mean loss per image and the share of images that were classified rightly, from 0 to 1."""

    loss: float
    accuracy: float


def logits(output: Any) -> Tensor:
    """The class scores (batch x classes) in a model's output: the tensor itself or what it calls ``logits``.

    Raises ``ModelError`` (``no-logits``) if there are none.
    """
    found = output["logits"] if isinstance(output, Mapping) and "logits" in output else output
    found = getattr(found, "logits", found)
    if isinstance(found, Tensor) and found.dim() == 2:
        return found
    shape = (
        f"a tensor of shape {tuple(found.shape)}"
        if isinstance(found, Tensor)
        else f"a {type(output).__name__}"
    )
    raise ModelError(
        "no-logits",
        f"the model gives {shape}, which holds no class scores; give a model with a row of them per image",
    )


def cross_entropy(output: Any, target: Tensor) -> Tensor:
    """Mean cross entropy of a model's output against class indices.

    If the output also holds the class scores of a second classifier, as ``auxiliary``, theirs counts 0.4.
    """
    loss = F.cross_entropy(logits(output), target)
    auxiliary = getattr(output, "auxiliary", None)
    return (
        loss if auxiliary is None else loss + AUXILIARY_WEIGHT * F.cross_entropy(auxiliary, target)
    )


def accuracy(model: nn.Module, batches: Iterable[Batch]) -> float:
    """The share of images that ``model``, in evaluation mode, classifies rightly; its mode is restored."""
    return evaluate(model, batches).accuracy


@torch.no_grad()
def evaluate(
    model: nn.Module, batches: Iterable[Batch], loss: LossFunction = cross_entropy
) -> Evaluation:
    """Loss and accuracy of ``model``, in evaluation mode, over (input, class index) batches; its mode is restored."""
    total, right, seen = 0.0, 0, 0
    with evaluation_mode(model):
        for inputs, target in batches:
            output = model(inputs)
            total += float(loss(output, target)) * len(target)
            right += int((logits(output).argmax(1) == target).sum())
            seen += len(target)
    if not seen:
        raise DataError(
            "no-batches", "there is no image to evaluate the model on; give at least one"
        )
    return Evaluation(total / seen, right / seen)
