"""Augmentation: every pass sees the training images in another form, by torchvision's transforms.

References:
- ``rand_augment``: Cubuk, Zoph, Shlens, Le, "RandAugment", NeurIPS 2020.
- ``erase``: Zhong, Zheng, Kang, Li, Yang, "Random Erasing Data Augmentation", AAAI 2020; with
  patches of the mean color it is what DeVries, Taylor (2017) call cutout.
- ``mixup``: Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR
  2018, with one weight per batch and each image mixed with the one before it.

How we differ: images lie in memory as normalized tensors, so black borders are what black is there,
and RandAugment sees them as pixels from 0 to 1 and gives them back normalized. All draws come from
torch's own generator on the CPU, whose state is a part of every checkpoint.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from pydantic import ConfigDict, Field, model_validator
from torch import Tensor

from fxgrow.data import Batches, Splits
from fxgrow.documents import Settings, limits
from fxgrow.errors import TrainingError
from fxgrow.growth import Batch
from fxgrow.optional import require

_MAGNITUDE = 9
_LEAST_MIXUP = 1e-3
"""Beta distributions of less mix nothing but rounding errors."""


class Augmentation(Settings):
    """What becomes of training images in every pass; all of it is off by default.

    In this order: crop, flip, RandAugment, erase, mixup. Each image has draws of its own. Growth
    steps and evaluations look at the images as they are.

    Args:
        flip: probability of a mirror image.
        crop: pixels of black border around an image, of which a part of the old size is cut out.
        rand_augment: operations of RandAugment per image.
        magnitude: of each of these operations, from 0 to 30.
        erase: probability that a rectangle of 2 to 33 % of the image becomes the mean color.
        mixup: alpha of the Beta distribution from which the weight of each mixture is drawn; the
            loss is that of both labels by their weights.

    Raises:
        ArgumentError: ``bad-setting``: a value is out of range, or without effect.

    Example:
        >>> fxgrow.training.RunSettings(augmentation=Augmentation(flip=0.5, crop=4))
    """

    model_config = ConfigDict(allow_inf_nan=False)

    flip: float = Field(default=0.0, ge=0, le=1)
    crop: int = Field(default=0, ge=0, le=limits.SIDE)
    rand_augment: int = Field(default=0, ge=0, le=16)
    magnitude: int = Field(default=_MAGNITUDE, ge=0, le=30)
    erase: float = Field(default=0.0, ge=0, le=1)
    mixup: float = Field(default=0.0, ge=0, le=100)

    @model_validator(mode="after")
    def _have_an_effect(self) -> "Augmentation":
        if self.magnitude != _MAGNITUDE and not self.rand_augment:
            raise ValueError("a magnitude has no effect without rand_augment; leave it out")
        if 0 < self.mixup < _LEAST_MIXUP:
            raise ValueError(f"mixup below {_LEAST_MIXUP} mixes nothing; give more, or 0")
        return self

    @property
    def of_each_image(self) -> bool:
        """Whether images change one by one."""
        return bool(self.flip or self.crop or self.rand_augment or self.erase)


@dataclass(frozen=True, eq=False)
class AugmentedBatches:
    """Batches whose images change in every pass.

    Args:
        batches: as they are.
        change: what becomes of one image; None: nothing.
        mix: what becomes of a batch of images and labels; None: nothing.
    """

    batches: Batches
    change: Callable[[Tensor], Tensor] | None
    mix: Callable[[Tensor, Tensor], Batch] | None

    def __iter__(self) -> Iterator[Batch]:
        for images, labels in self.batches:
            changed = images
            if self.change is not None:
                # One by one: a transform draws once per call, whatever the batch is.
                changed = torch.stack([self.change(image) for image in images])
            yield self.mix(changed, labels) if self.mix is not None else (changed, labels)


def augmented(train: Batches, augmentation: Augmentation, data: Splits) -> Iterable[Batch]:
    """Training batches as an augmentation makes them.

    Args:
        train: the batches; they are left as they are if nothing is asked for.
        augmentation: what to do.
        data: knows how images were normalized, and how many classes there are.
    """
    change = _change(augmentation, data) if augmentation.of_each_image else None
    if change is None and not augmentation.mixup:
        return train
    mix = None
    if augmentation.mixup:
        # Labels [N] become rows of class weights [N, classes], which cross entropy takes as well.
        mix = _transforms().MixUp(alpha=augmentation.mixup, num_classes=data.classes)
    return AugmentedBatches(train, change, mix)


def _transforms() -> Any:
    return require("torchvision.transforms.v2", extra="vision", error=TrainingError)


def _change(augmentation: Augmentation, data: Splits) -> Callable[[Tensor], Tensor]:
    """What becomes of one normalized image [C, H, W]."""
    v2, steps = _transforms(), []
    mean, std = torch.tensor(data.mean), torch.tensor(data.std)
    if augmentation.crop:
        black = (-mean / std).tolist()
        side = data.shape[1]
        steps.append(v2.RandomCrop(side, padding=augmentation.crop, fill=black))
    if augmentation.flip:
        steps.append(v2.RandomHorizontalFlip(augmentation.flip))
    if augmentation.rand_augment:
        # x = (pixel - mean) / std is undone by the same formula: (x + mean / std) / (1 / std).
        steps += [
            v2.Normalize((-mean / std).tolist(), (1 / std).tolist()),
            v2.Lambda(partial(torch.clamp, min=0, max=1)),  # rounding leads out of it
            v2.RandAugment(augmentation.rand_augment, augmentation.magnitude, fill=0),
            v2.Normalize(list(data.mean), list(data.std)),
        ]
    if augmentation.erase:
        steps.append(v2.RandomErasing(augmentation.erase))
    composed: Callable[[Tensor], Tensor] = v2.Compose(steps)
    return composed


def require_augmentation(augmentation: Augmentation, data: Splits) -> None:
    """Check that images can be augmented as they are asked to be.

    Raises:
        TrainingError: ``bad-setting``; ``missing-extra``: torchvision is not installed.
    """
    if not augmentation.of_each_image and not augmentation.mixup:
        return
    _transforms()
    channels, *sides = data.shape
    if augmentation.crop >= min(sides):
        raise TrainingError(
            "bad-setting",
            f"crop={augmentation.crop} cuts images of {sides[0]} x {sides[1]} out of their own "
            f"border, where there is nothing to see; ask for less than {min(sides)}",
        )
    if augmentation.rand_augment and channels not in (1, 3):
        raise TrainingError(
            "bad-setting",
            f"rand_augment is for gray and color images, and these have {channels} channels; "
            "leave it out",
        )
