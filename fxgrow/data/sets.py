"""Images and labels in memory, and how every source is brought to the form that a model wants."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fxgrow.data.memory import check_memory
from fxgrow.errors import DataError

# A channel that is constant over the training images (a border, an empty plane) would be divided by zero.
SMALLEST_DEVIATION = 1e-6


@dataclass(frozen=True, eq=False)
class DataSet:
    """``images``: float32, N x C x H x W; ``labels``: int64, N. Indexes like a ``TensorDataset``."""

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise DataError(
                "unequal-lengths",
                f"{len(self.images)} images came with {len(self.labels)} labels, so they cannot be paired; "
                "give one label per image",
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def to(self, device: torch.device | str) -> "DataSet":
        """The same data on ``device``."""
        return DataSet(self.images.to(device), self.labels.to(device))

    def pick(self, indices: Sequence[int]) -> "DataSet":
        """The images at ``indices``, in that order."""
        return DataSet(self.images[list(indices)], self.labels[list(indices)])

    def first(self, count: int | None) -> "DataSet":
        """The first ``count`` images, or all of them if ``count`` is None or more than there are."""
        return DataSet(self.images[:count], self.labels[:count])


@dataclass(frozen=True, eq=False)
class Splits:
    """A data set ready to train on.

    Images are normalised per channel with the ``mean`` and ``std`` (in units of pixel values from 0 to 1) of the
    training images. ``shape`` is that of one image, C x H x W.
    """

    name: str
    train: DataSet
    test: DataSet
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def to(self, device: torch.device | str) -> "Splits":
        """The same data on ``device``."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


@dataclass(frozen=True, eq=False)
class RawSplits:
    """What a source hands over: pixel values from 0 to 1, any number of channels, any size."""

    train: DataSet
    test: DataSet
    classes: int


@dataclass(frozen=True, eq=False)
class Batches:
    """Batches of a data set, as ``(images, labels)``; can be iterated any number of times.

    With a generator, every pass draws a new order from it; without, the order is that of the data set.
    """

    dataset: DataSet
    size: int
    generator: torch.Generator | None = None
    limit: int | None = None
    drop_last: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise DataError(
                "batch-size", f"a batch size of {self.size} holds no image; give 1 or more"
            )

    def __len__(self) -> int:
        full, rest = divmod(len(self.dataset), self.size)
        count = full if self.drop_last else full + bool(rest)
        return count if self.limit is None else min(count, self.limit)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = self._order()
        for start in range(0, len(self) * self.size, self.size):
            chosen = order[start : start + self.size]
            yield self.dataset.images[chosen], self.dataset.labels[chosen]

    def _order(self) -> Tensor:
        count, device = len(self.dataset), self.dataset.labels.device
        if self.generator is None:
            return torch.arange(count, device=device)
        return torch.randperm(count, generator=self.generator, device=self.generator.device).to(
            device
        )


def batches(
    dataset: DataSet,
    size: int,
    *,
    shuffle: bool = False,
    generator: torch.Generator | None = None,
    limit: int | None = None,
    drop_last: bool = False,
) -> Batches:
    """Cut ``dataset`` into batches of ``size`` images, at most ``limit`` of them per pass.

    ``shuffle`` takes its order from ``generator``, or from torch's default generator if there is none. The last,
    shorter batch is kept unless ``drop_last``.
    """
    source = (generator or torch.default_generator) if shuffle else None
    return Batches(dataset, size, source, limit, drop_last)


def make_splits(name: str, raw: RawSplits, *, channels: int | None, size: int | None) -> Splits:
    """Bring raw images to ``channels`` x ``size`` x ``size`` (None: as they are) and normalise them."""
    have, side = raw.train.images.shape[1:3]
    check_memory(
        "images", len(raw.train) + len(raw.test), max(have, channels or 0), max(side, size or 0)
    )
    train, test = (fit_images(part.images, channels, size) for part in (raw.train, raw.test))
    std, mean = torch.std_mean(train, dim=(0, 2, 3), correction=0)
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
    """Subtract ``mean`` and divide by ``std``, both per channel."""
    return (images - mean[:, None, None]) / std[:, None, None]


def fit_images(images: Tensor, channels: int | None, size: int | None) -> Tensor:
    """Images of ``channels`` x ``size`` x ``size`` (None: as they are), resized bilinearly.

    Grey images are repeated over the channels, coloured ones are averaged to one grey channel; anything else is a
    ``DataError``.
    """
    if size is not None and images.shape[2:] != (size, size):
        images = F.interpolate(
            images, (size, size), mode="bilinear", align_corners=False, antialias=True
        )
    have = images.shape[1]
    if channels is None or channels == have:
        return images
    if channels == 1:
        return images.mean(1, keepdim=True)
    if have == 1:
        return images.repeat(1, channels, 1, 1)
    raise DataError(
        "channels",
        f"images of {have} channels cannot be turned into {channels}; ask for 1 or {have} channels",
    )
