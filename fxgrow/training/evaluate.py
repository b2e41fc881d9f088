"""The output of a classifier as class scores, its loss, and how often it is right."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Probability
from fxgrow.errors import DataError, ModelError, TrainingError
from fxgrow.growth import Batch, LossFunction
from fxgrow.modes import evaluation_mode
from fxgrow.running import errors_as, input_target_pairs

AUXILIARY_WEIGHT = 0.4
"""Weight of the loss of an auxiliary classifier (Liu et al. 2019, App. A.2)."""

EVALUATION_BATCH = 256
"""Images per batch when a model is only evaluated: without gradients more fit into memory."""


@dataclass(frozen=True)
class Evaluation:
    """Loss and accuracy of a classifier on some images.

    Args:
        loss: mean loss per image.
        accuracy: share of images that are classified correctly, from 0 to 1.

    Example:
        >>> Evaluation(loss=0.31, accuracy=0.92).accuracy
        0.92
    """

    loss: float
    accuracy: float


def logits(output: Any) -> Tensor:
    """The class scores in a model's output: the tensor itself, or its item or field ``logits``.

    Args:
        output: what a model returned.

    Shapes:
        returned tensor: [batch, classes]

    Returns:
        The class scores, not copied.

    Raises:
        ModelError: there are no class scores (``no-logits``).

    Example:
        >>> logits({"logits": torch.zeros(2, 10)}).shape
        torch.Size([2, 10])
    """
    # Hugging Face models return a mapping, cells a named tuple, most other models a tensor.
    scores = output["logits"] if isinstance(output, Mapping) and "logits" in output else output
    scores = getattr(scores, "logits", scores)
    if isinstance(scores, Tensor) and scores.dim() == 2:
        return scores
    if isinstance(scores, Tensor):
        description = f"a tensor of shape {tuple(scores.shape)}"
    else:
        description = f"a {type(output).__name__}"
    raise ModelError(
        "no-logits",
        f"the model gives {description}, which holds no class scores; give a model with a row of "
        "them per image",
    )


@checked
def cross_entropy(output: Any, target: Tensor, label_smoothing: Probability = 0.0) -> Tensor:
    """Mean cross entropy of a model's output against class indices.

    An output with a field ``auxiliary``, the class scores of a second classifier, has 0.4 times
    the cross entropy of those added.

    Args:
        output: what a model returned: class scores, or something that holds them (``logits``).
        target: the class index of every image, or a weight for each of its classes (mixup).
        label_smoothing: share of the target that goes to all classes alike (Szegedy et al.,
            "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, Sec. 7).

    Shapes:
        class scores: [batch, classes]
        target: [batch] or [batch, classes]
        returned tensor: []

    Returns:
        The loss, with a graph to the output.

    Raises:
        ModelError: the output holds no class scores (``no-logits``).
        DataError: the targets are no class indices of them (``bad-labels``).

    Example:
        >>> cross_entropy(torch.zeros(3, 2), torch.tensor([0, 1, 1]))
        tensor(0.6931)
    """
    scores = logits(output)
    with errors_as(
        DataError,
        "bad-labels",
        f"the labels do not fit class scores of shape {tuple(scores.shape)}",
        "give one index of a class per row",
    ):
        loss = F.cross_entropy(scores, target, label_smoothing=label_smoothing)
    auxiliary = getattr(output, "auxiliary", None)
    if auxiliary is None:
        return loss
    second = F.cross_entropy(auxiliary, target, label_smoothing=label_smoothing)
    return loss + AUXILIARY_WEIGHT * second


def run_on_batch(model: nn.Module, inputs: Any) -> Any:
    """Run a model on the inputs of a batch.

    Args:
        model: the model.
        inputs: what it is called with.

    Returns:
        Its output.

    Raises:
        ModelError: ``does-not-run``, if it raises an error.

    Example:
        >>> logits = run_on_batch(nn.Linear(3, 2), torch.zeros(8, 3))
    """
    name = type(model).__name__
    advice = "give batches of the shape, dtype and device that it takes"
    with errors_as(ModelError, "does-not-run", f"{name} does not run on a batch", advice):
        return model(inputs)


def require_labels(target: Tensor, classes: int) -> None:
    """Check that labels number classes.

    Args:
        target: the labels of a batch.
        classes: how many classes there are.

    Raises:
        DataError: ``bad-labels``, if they do not.

    Example:
        >>> require_labels(torch.tensor([0, 2, 1]), classes=3)
    """
    is_number = target.dim() == 1 and not target.is_floating_point() and not target.is_complex()
    if not is_number or target.is_meta or not bool(((target >= 0) & (target < classes)).all()):
        raise DataError(
            "bad-labels",
            f"the labels of a batch, a {target.dtype} tensor of shape {tuple(target.shape)}, do "
            f"not number {classes} classes; give whole numbers from 0 to {classes - 1}, one per "
            "example",
        )


def loss_of(loss: LossFunction, output: Any, target: Tensor) -> Tensor:
    """The loss of one batch; ``TrainingError`` (``bad-loss``) if it cannot be computed."""
    advice = "give a loss that takes the output and the target and gives a scalar"
    with errors_as(TrainingError, "bad-loss", "the loss of a batch cannot be computed", advice):
        value: Any = loss(output, target)
        if not isinstance(value, Tensor) or value.numel() != 1 or value.is_meta:
            raise TypeError(f"it is a {type(value).__name__} and no tensor with one value")
        result: Tensor = value
        return result


@checked
def accuracy(model: nn.Module, batches: Iterable[Batch]) -> float:
    """The share of images that a model classifies correctly in evaluation mode.

    Args:
        model: a classifier; its mode is restored.
        batches: pairs of images and class indices.

    Returns:
        The accuracy, from 0 to 1.

    Raises:
        DataError: there is no batch (``no-batches``).
        ModelError: the model gives no class scores (``no-logits``).

    Example:
        >>> accuracy(model, fxgrow.data.batches(data.test, EVALUATION_BATCH))
        0.92
    """
    return evaluate(model, batches).accuracy


@checked
@torch.no_grad()
def evaluate(
    model: nn.Module, batches: Iterable[Batch], loss: LossFunction = cross_entropy
) -> Evaluation:
    """Loss and accuracy of a model in evaluation mode.

    Args:
        model: a classifier; its mode is restored.
        batches: pairs of images and class indices.
        loss: from the model's output and class indices to the mean loss of a batch.

    Returns:
        The mean loss per image, and the accuracy.

    Raises:
        DataError: there is no batch (``no-batches``).
        ModelError: the model gives no class scores (``no-logits``).

    Example:
        >>> evaluate(model, fxgrow.data.batches(data.test, EVALUATION_BATCH))
        Evaluation(loss=0.31, accuracy=0.92)
    """
    total_loss, correct, images = 0.0, 0, 0
    # Dropout and batch norm would make the result depend on chance and on the other images.
    with evaluation_mode(model):
        for inputs, target in input_target_pairs(batches):
            output = run_on_batch(model, inputs)
            # A batch counts by its images, as the last one may be smaller.
            total_loss += float(loss_of(loss, output, target)) * len(target)
            # [batch, classes]: the class with the largest score is the answer.
            correct += int((logits(output).argmax(1) == target).sum())
            images += len(target)
    if not images:
        raise DataError(
            "no-batches", "there is no image to evaluate the model on; give at least one"
        )
    return Evaluation(total_loss / images, correct / images)
