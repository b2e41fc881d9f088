"""The table of data sources; to add one, write a file beside this one and add a row here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Seed
from fxgrow.data.digits import digits
from fxgrow.data.folders import cifar10, cifar100, image_folder
from fxgrow.data.request import Request
from fxgrow.data.sets import RawSplits, Splits, make_splits
from fxgrow.data.shapes import shapes
from fxgrow.errors import DataError


@dataclass(frozen=True)
class Source:
    """A function that loads images, and the channels and size they get by default.

    ``reads_files``: whether it needs the directory of its files.
    """

    read: Callable[[Request], RawSplits]
    channels: int
    size: int
    reads_files: bool = False


SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "digits": Source(digits, channels=3, size=32),
        "shapes": Source(shapes, channels=3, size=32),
        "cifar10": Source(cifar10, channels=3, size=32, reads_files=True),
        "cifar100": Source(cifar100, channels=3, size=32, reads_files=True),
        "imagefolder": Source(image_folder, channels=3, size=64, reads_files=True),
    }
)
"""Data sets by name, as ``load_data`` and ``--data`` take them."""


@checked
def load_data(
    name: str,
    *,
    root: Path | str | None = None,
    seed: Seed = 0,
    channels: int | None = None,
    size: int | None = None,
    classes: int | None = None,
    train_size: int | None = None,
    test_size: int | None = None,
) -> Splits:
    """Load a data set into memory, as normalized float32 images.

    Args:
        name: a key of ``SOURCES``.
        root: directory of the sources that read files.
        seed: draws the images of procedural sources.
        channels: channels of the images (default 3).
        size: height and width of the images (default 32, and 64 for ``imagefolder``).
        classes: number of classes; chosen for ``shapes``, and checked for the other sources.
        train_size: most training images (default: all; 5,000 for ``shapes``).
        test_size: most test images (default: all; 1,000 for ``shapes``).

    Shapes:
        The images of both splits are [N, channels, size, size], the labels [N].

    Raises:
        DataError: ``unknown-data``, ``missing-directory``, ``missing-extra``, ``wrong-format``, or
            ``option``, ``classes``, ``channels`` and ``too-large`` for options that do not fit.

    Example:
        >>> splits = load_data("shapes", train_size=100, test_size=10)
        >>> splits.train.images.shape
        torch.Size([100, 3, 32, 32])
    """
    source = _source(name)
    require_root_is_read(name, root)
    request = Request(
        root=None if root is None else Path(root),
        seed=seed,
        channels=source.channels if channels is None else channels,
        size=source.size if size is None else size,
        classes=classes,
        train_size=train_size,
        test_size=test_size,
    )
    raw = source.read(request)
    if classes is not None and classes != raw.classes:
        raise DataError(
            "classes", f"{name} has {raw.classes} classes, not {classes}; leave classes out"
        )
    return make_splits(name, raw, channels=request.channels, size=request.size)


@checked
def require_root_is_read(name: str, root: Path | str | None) -> None:
    """Check that a directory is given only for data that lies in one.

    Args:
        name: of a data set; one that is unknown is reported when it is loaded.
        root: the directory; None: none was given.

    Raises:
        DataError: ``option``.
    """
    source = SOURCES.get(name)
    if root is not None and source is not None and not source.reads_files:
        with_files = [other for other, row in SOURCES.items() if row.reads_files]
        raise DataError(
            "option",
            f"{name} is read from no directory, so {root} would be ignored; leave the root out "
            f"(--data-root), which is for {', '.join(with_files)}",
        )


def _source(name: str) -> Source:
    if name in SOURCES:
        return SOURCES[name]
    closest = get_close_matches(name, SOURCES, n=1, cutoff=0.0)[0]
    raise DataError(
        "unknown-data",
        f"no data set {name!r}; did you mean {closest!r}? There are {', '.join(SOURCES)}",
    )
