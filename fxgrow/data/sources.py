"""The table of data sources; a new one is a row here and a file beside this one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

from fxgrow.data.digits import digits
from fxgrow.data.folders import cifar10, cifar100, image_folder
from fxgrow.data.request import Request
from fxgrow.data.sets import RawSplits, Splits, make_splits
from fxgrow.data.shapes import shapes
from fxgrow.errors import DataError


@dataclass(frozen=True)
class Source:
    """Where images come from, and the form they get when the caller does not say."""

    read: Callable[[Request], RawSplits]
    channels: int
    size: int


SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "digits": Source(digits, channels=3, size=32),
        "shapes": Source(shapes, channels=3, size=32),
        "cifar10": Source(cifar10, channels=3, size=32),
        "cifar100": Source(cifar100, channels=3, size=32),
        "imagefolder": Source(image_folder, channels=3, size=64),
    }
)


def load_data(
    name: str,
    *,
    root: Path | str | None = None,
    seed: int = 0,
    channels: int | None = None,
    size: int | None = None,
    classes: int | None = None,
    train_size: int | None = None,
    test_size: int | None = None,
) -> Splits:
    """Load one of ``SOURCES`` into memory, as normalised float32 images of ``channels`` x ``size`` x ``size``.

    ``root`` is the directory of the sources that read files, ``seed`` makes the procedural ones. ``classes`` is chosen
    by ``shapes`` and checked by the others. ``train_size`` and ``test_size`` are how many images to take at most
    (default: all; 5,000 and 1,000 for ``shapes``). The defaults are 3 x 32 x 32, and 3 x 64 x 64 for ``imagefolder``.

    Raises ``DataError``: unknown name, missing directory or extra, files in another format, options that do not fit.
    """
    source = _source(name)
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
    if classes not in (None, raw.classes):
        raise DataError(
            "classes", f"{name} has {raw.classes} classes, not {classes}; leave classes out"
        )
    return make_splits(name, raw, channels=request.channels, size=request.size)


def _source(name: str) -> Source:
    if name in SOURCES:
        return SOURCES[name]
    closest = get_close_matches(name, SOURCES, n=1, cutoff=0.0)[0]
    raise DataError(
        "unknown-data",
        f"no data set {name!r}; did you mean {closest!r}? There are {', '.join(SOURCES)}",
    )
