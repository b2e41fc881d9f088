"""Images and labels in memory, and the conversion of any source to the form that a model needs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from fxgrow.argument_checks import checked, checked_class
from fxgrow.argument_types import Amount, Count, Finite, Images, Name, Satisfies, TensorDevice
from fxgrow.data.memory import check_memory
from fxgrow.errors import ArgumentError, DataError

# A channel that is constant over the training images (a border, an empty plane) would be divided
# by zero.
SMALLEST_DEVIATION = 1e-6


def _is_vector(value: Tensor) -> bool:
    return value.dim() == 1


ImageLabels = Annotated[Tensor, Satisfies("of one number per image", _is_vector)]
"""One label per image."""


@checked_class
@dataclass(frozen=True, eq=False)
class DataSet:
    """Images with one label each; indexes like a ``TensorDataset``.

    Args:
        images: float32 [N, C, H, W].
        labels: int64 [N].

    Raises:
        DataError: ``unequal-lengths`` if there are more of one than of the other.
    """

    images: Images
    labels: ImageLabels

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise DataError(
                "unequal-lengths",
                f"{len(self.images)} images came with {len(self.labels)} labels, "
                "so they cannot be paired; give one label per image",
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    @checked
    def to(self, device: TensorDevice) -> "DataSet":
        """Return the same data on ``device``."""
        return DataSet(self.images.to(device), self.labels.to(device))

    @checked
    def pick(self, indices: Sequence[Amount]) -> "DataSet":
        """Return the images at ``indices``, in that order.

        Raises:
            ArgumentError: ``bad-argument`` if there is none at one of them.
        """
        beyond = max(indices, default=-1)
        if beyond >= len(self):
            raise ArgumentError(
                "bad-argument",
                f"DataSet.pick() cannot use indices with {beyond}, for there are {len(self)} "
                "images; give numbers below that",
            )
        return DataSet(self.images[list(indices)], self.labels[list(indices)])

    @checked
    def first(self, count: Amount | None) -> "DataSet":
        """Return the first ``count`` images; all of them for None or where there are fewer."""
        return DataSet(self.images[:count], self.labels[:count])


@checked_class
@dataclass(frozen=True, eq=False)
class Splits:
    """A data set ready to train on, normalized per channel with statistics of the training images.

    Args:
        name: name of the data set.
        train: training images.
        test: test images.
        classes: number of classes.
        mean: per channel, of the training images before normalization (pixels from 0 to 1).
        std: per channel, likewise.
    """

    name: Name
    train: DataSet
    test: DataSet
    classes: Count
    mean: tuple[Finite, ...]
    std: tuple[Finite, ...]

    @checked
    def to(self, device: TensorDevice) -> "Splits":
        """Return the same data on ``device``."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


@dataclass(frozen=True, eq=False)
class RawSplits:
    """What a source returns: pixels from 0 to 1, any number of channels, any size."""

    train: DataSet
    test: DataSet
    classes: int


@checked_class
@dataclass(frozen=True, eq=False)
class Batches:
    """Batches of a data set as ``(images, labels)``; can be iterated any number of times.

    Args:
        dataset: the images.
        size: images per batch.
        generator: draws a new order for every pass; None keeps the order of the data set.
        limit: most batches per pass.
        drop_last: leave out the last batch if it is shorter.

    Raises:
        DataError: ``batch-size`` if ``size`` is below 1.
    """

    dataset: DataSet
    size: int
    generator: torch.Generator | None = None
    limit: Amount | None = None
    drop_last: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise DataError(
                "batch-size", f"a batch size of {self.size} holds no image; give 1 or more"
            )

    def __len__(self) -> int:
        full, rest = divmod(len(self.dataset), self.size)
        count = full
        if rest and not self.drop_last:
            count += 1
        return count if self.limit is None else min(count, self.limit)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = self._order()
        for start in range(0, len(self) * self.size, self.size):
            indices = order[start : start + self.size]
            yield self.dataset.images[indices], self.dataset.labels[indices]

    def _order(self) -> Tensor:
        """Return the order of the images for one pass, on the device of the data."""
        count, device = len(self.dataset), self.dataset.labels.device
        if self.generator is None:
            return torch.arange(count, device=device)
        # Drawn where the generator lives, so that the order is the same on every device.
        order = torch.randperm(count, generator=self.generator, device=self.generator.device)
        return order.to(device)


@checked
def batches(
    dataset: DataSet,
    size: int,
    *,
    shuffle: bool = False,
    generator: torch.Generator | None = None,
    limit: Amount | None = None,
    drop_last: bool = False,
) -> Batches:
    """Split ``dataset`` into batches.

    Args:
        dataset: the images.
        size: images per batch.
        shuffle: draw a new order for every pass.
        generator: source of that order; None means torch's default generator.
        limit: most batches per pass.
        drop_last: leave out the last batch if it is shorter.

    Returns:
        ``(images, labels)`` pairs, [size, C, H, W] and [size], to iterate over as often as needed.

    Raises:
        DataError: ``batch-size`` if ``size`` is below 1.

    Example:
        >>> splits = load_data("shapes", train_size=100, test_size=10)
        >>> [len(labels) for _, labels in batches(splits.train, 40)]
        [40, 40, 20]
    """
    source = (generator or torch.default_generator) if shuffle else None
    return Batches(dataset, size, source, limit, drop_last)


def make_splits(name: str, raw: RawSplits, *, channels: int | None, size: int | None) -> Splits:
    """Convert raw images to ``channels`` x ``size`` x ``size`` and normalize them.

    Args:
        name: name of the data set.
        raw: what a source returned.
        channels: wanted number of channels; None keeps that of the source.
        size: wanted height and width; None keeps those of the source.

    Raises:
        DataError: ``channels`` if the images cannot get that many, ``too-large``.
    """
    source_channels, source_size = raw.train.images.shape[1:3]
    largest_channels = max(source_channels, channels or 0)
    largest_size = max(source_size, size or 0)
    check_memory("images", len(raw.train) + len(raw.test), largest_channels, largest_size)
    train = fit_images(raw.train.images, channels, size)
    test = fit_images(raw.test.images, channels, size)
    std, mean = torch.std_mean(train, dim=(0, 2, 3), correction=0)  # per channel
    std = std.clamp_min(SMALLEST_DEVIATION)
    return Splits(
        name=name,
        train=DataSet(normalize(train, mean, std), raw.train.labels),
        test=DataSet(normalize(test, mean, std), raw.test.labels),
        classes=raw.classes,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
    )


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Subtract ``mean`` [C] from ``images`` [N, C, H, W] and divide by ``std`` [C]."""
    return (images - mean[:, None, None]) / std[:, None, None]


def fit_images(images: Tensor, channels: int | None, size: int | None) -> Tensor:
    """Resize images bilinearly, and convert between gray and color.

    Gray images are repeated over the channels; color images are averaged to one gray channel.

    Args:
        images: [N, C, H, W].
        channels: wanted number of channels; None keeps them.
        size: wanted height and width; None keeps them.

    Returns:
        [N, channels, size, size].

    Raises:
        DataError: ``channels`` for any other pair of channel counts.
    """
    if size is not None and images.shape[2:] != (size, size):
        images = F.interpolate(
            images, (size, size), mode="bilinear", align_corners=False, antialias=True
        )
    source_channels = images.shape[1]
    if channels is None or channels == source_channels:
        return images
    if channels == 1:
        return images.mean(1, keepdim=True)
    if source_channels == 1:
        return images.repeat(1, channels, 1, 1)
    raise DataError(
        "channels",
        f"images of {source_channels} channels cannot be turned into {channels}; "
        f"ask for 1 or {source_channels} channels",
    )
