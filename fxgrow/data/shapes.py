"""Procedural textured shapes: a class is a shape, a texture and (with 100 classes) a colour scheme.

Everything else is nuisance, drawn anew for each image: position, size, rotation, colours, the texture's frequency,
direction and phase, an uneven background and pixel noise. A linear classifier sees little of the class, a small
convolutional network learns it. All images of a split are drawn at once, as tensors of N x size x size.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fxgrow.data.memory import check_memory
from fxgrow.data.request import Request
from fxgrow.data.sets import DataSet, RawSplits
from fxgrow.errors import DataError

DEFAULT_CLASSES = 10
DEFAULT_SIZE = 32
_COLOR_CHANNELS = 3
DEFAULT_TRAIN = 5_000
DEFAULT_TEST = 1_000

RADIUS = (0.65, 0.95)  # of the shape, where the image reaches from -1 to 1
FREQUENCY = (7.0, 11.0)  # of the texture, in radians per radius
DARK = (0.25, 0.5)  # brightness of the darker colour of a texture: dark, but its hue still shows
LEAST_CONTRAST = 0.35  # between the brightness of the two
TILT = math.radians(30)  # of the shape, to either side; the texture is turned by any angle
BACKGROUND = (0.3, 0.7)  # brightness per channel
BACKGROUND_SPREAD = 0.1  # standard deviation of the uneven background, before it is smoothed
BACKGROUND_CELLS = 5
NOISE = 0.06  # standard deviation of the pixel noise

Field = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Layout:
    """How many shapes, textures and colour schemes make up the classes."""

    shapes: int
    textures: int
    schemes: int


LAYOUTS = {10: Layout(5, 2, 1), 20: Layout(5, 4, 1), 100: Layout(5, 5, 4)}


def _disc(u: Tensor, v: Tensor) -> Tensor:
    return torch.hypot(u, v) - 0.9


def _square(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs(), v.abs()) - 0.75


def _triangle(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(v, u.abs() * math.sqrt(0.75) - v / 2) - 0.5


def _ring(u: Tensor, v: Tensor) -> Tensor:
    return (torch.hypot(u, v) - 0.7).abs() - 0.28


def _cross(u: Tensor, v: Tensor) -> Tensor:
    across, along = torch.minimum(u.abs(), v.abs()), torch.maximum(u.abs(), v.abs())
    return torch.maximum(across - 0.3, along - 0.95)


def _stripes(u: Tensor, v: Tensor) -> Tensor:
    return torch.sin(u) + 0 * v


def _checks(u: Tensor, v: Tensor) -> Tensor:
    return torch.sin(u) * torch.sin(v) * 1.5


def _zigzag(u: Tensor, v: Tensor) -> Tensor:
    return torch.sin(u + 2 * torch.sin(v))


def _circles(u: Tensor, v: Tensor) -> Tensor:
    return torch.sin(torch.hypot(u, v))


def _dots(u: Tensor, v: Tensor) -> Tensor:
    return torch.cos(u) + torch.cos(v) - 1


# Signed distances in units of the radius, negative inside; u and v are the coordinates of the shape.
SHAPE_DRAWERS: tuple[Field, ...] = (_disc, _square, _triangle, _ring, _cross)
# Waves, positive in one colour and negative in the other; u and v in radians.
TEXTURES: tuple[Field, ...] = (_stripes, _checks, _dots, _circles, _zigzag)
# The hue of the second colour against the first, in turns, and the saturation of each.
COLOR_SCHEMES = torch.tensor([[0.0, 0.9, 0.9], [0.5, 0.9, 0.9], [0.25, 0.9, 0.9], [0.0, 0.9, 0.0]])


def shapes(request: Request) -> RawSplits:
    """Draw 3 x size x size images from 0 to 1 of 10, 20 or 100 classes, evenly many of each, in random order.

    The same request gives the same images; training and test images never come from the same random numbers.
    """
    classes = DEFAULT_CLASSES if request.classes is None else request.classes
    if classes not in LAYOUTS:
        raise DataError(
            "classes",
            f"shapes come in {', '.join(map(str, LAYOUTS))} classes, not {classes}; take one",
        )
    size = request.size or DEFAULT_SIZE
    counts = request.train_size or DEFAULT_TRAIN, request.test_size or DEFAULT_TEST
    check_memory("shapes", sum(counts), max(_COLOR_CHANNELS, request.channels or 0), size)
    train, test = (
        _draw(count, classes, size, torch.Generator().manual_seed(2 * request.seed + split))
        for split, count in enumerate(counts)
    )
    return RawSplits(train, test, classes)


@dataclass(frozen=True)
class _Kinds:
    """Per image: the index of its shape, its texture and its colour scheme."""

    shape: Tensor
    texture: Tensor
    scheme: Tensor


def _draw(count: int, classes: int, size: int, generator: torch.Generator) -> DataSet:
    labels = torch.arange(count)[torch.randperm(count, generator=generator)] % classes
    kinds = _kinds(labels, LAYOUTS[classes], generator)
    across, down = _coordinates(size)
    radius = _uniform(count, *RADIUS, generator=generator)
    u, v = _turned(
        *_moved(across, down, radius, generator), _uniform(count, -TILT, TILT, generator=generator)
    )
    inside = torch.sigmoid(-_pick(SHAPE_DRAWERS, kinds.shape, u, v) * radius * size)
    wave = _waves(kinds.texture, u, v, generator)
    first, second = _colours(kinds.scheme, generator)
    figure = torch.lerp(first, second, torch.sigmoid(4 * wave)[:, None])
    images = torch.lerp(_background(count, size, generator), figure, inside[:, None])
    images += NOISE * torch.randn(images.shape, generator=generator)
    return DataSet(images.clamp_(0, 1), labels)


def _kinds(labels: Tensor, layout: Layout, generator: torch.Generator) -> _Kinds:
    rest, shape = labels // layout.shapes, labels % layout.shapes
    scheme = rest // layout.textures
    if layout.schemes == 1:
        scheme = torch.randint(len(COLOR_SCHEMES), labels.shape, generator=generator)
    return _Kinds(shape, rest % layout.textures, scheme)


def _uniform(count: int, low: float, high: float, *, generator: torch.Generator) -> Tensor:
    """Numbers from ``low`` to ``high``, count x 1 x 1."""
    return low + (high - low) * torch.rand(count, 1, 1, generator=generator)


def _turn(count: int, generator: torch.Generator) -> Tensor:
    return _uniform(count, 0, 2 * math.pi, generator=generator)


def _coordinates(size: int) -> tuple[Tensor, Tensor]:
    """Of the pixels' middles, across and down, in an image that reaches from -1 to 1."""
    middles = (torch.arange(size) + 0.5) * (2 / size) - 1
    return middles[None, None, :], middles[None, :, None]


def _moved(
    across: Tensor, down: Tensor, radius: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Coordinates about a random centre, in radii; the shape stays within the image."""
    count, free = len(radius), 1 - radius
    centre_across, centre_down = (
        free * _uniform(count, -1, 1, generator=generator) for _ in range(2)
    )
    return (across - centre_across) / radius, (down - centre_down) / radius


def _turned(u: Tensor, v: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    cos, sin = torch.cos(angle), torch.sin(angle)
    return u * cos + v * sin, v * cos - u * sin


def _pick(fields: tuple[Field, ...], which: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """``fields[which[i]]`` of image i, each field computed for its own images only."""
    picked = torch.empty_like(u)
    for index, field in enumerate(fields):
        mine = which == index
        picked[mine] = field(u[mine], v[mine])
    return picked


def _waves(texture: Tensor, u: Tensor, v: Tensor, generator: torch.Generator) -> Tensor:
    count = len(texture)
    frequency = _uniform(count, *FREQUENCY, generator=generator)
    u, v = _turned(u * frequency, v * frequency, _turn(count, generator))
    return _pick(TEXTURES, texture, u + _turn(count, generator), v + _turn(count, generator))


def _colours(scheme: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The two colours of each texture, N x 3 x 1 x 1; which of them is the brighter one is left to chance."""
    count = len(scheme)
    shift, first_saturation, second_saturation = COLOR_SCHEMES[scheme].unbind(1)
    hue, dark, light, swap = torch.rand(4, count, generator=generator).unbind(0)
    dark = DARK[0] + (DARK[1] - DARK[0]) * dark
    light = dark + LEAST_CONTRAST + (1 - LEAST_CONTRAST - dark) * light
    swapped = swap < 0.5
    first = _colour(hue, first_saturation, torch.where(swapped, light, dark))
    second = _colour(hue + shift, second_saturation, torch.where(swapped, dark, light))
    return first[..., None, None], second[..., None, None]


def _colour(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """HSV, each from 0 to 1 (the hue in turns), to RGB of N x 3."""
    sectors = (hue[:, None] * 6 + torch.tensor([5.0, 3.0, 1.0])) % 6
    strength = torch.minimum(sectors, 4 - sectors).clamp(0, 1)
    return value[:, None] * (1 - saturation[:, None] * strength)


def _background(count: int, size: int, generator: torch.Generator) -> Tensor:
    """One random colour per image with smooth unevenness, N x 3 x size x size."""
    cells = (
        torch.randn(count, 3, BACKGROUND_CELLS, BACKGROUND_CELLS, generator=generator)
        * BACKGROUND_SPREAD
    )
    cells += BACKGROUND[0] + (BACKGROUND[1] - BACKGROUND[0]) * torch.rand(
        count, 3, 1, 1, generator=generator
    )
    return F.interpolate(cells, (size, size), mode="bilinear", align_corners=False)
