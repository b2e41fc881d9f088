"""Procedural textured shapes: a class is a shape, a texture and (of 100 classes) a color scheme.

Everything else is nuisance and drawn anew for each image: position, size, rotation, colors, the
texture's frequency, direction and phase, an uneven background and pixel noise. A linear classifier
sees little of the class, a small convolutional network learns it. All images of a split are drawn
at once, as tensors of [N, size, size].
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
DEFAULT_TRAIN = 5_000
DEFAULT_TEST = 1_000
_COLOR_CHANNELS = 3

RADIUS = (0.65, 0.95)  # of the shape, in an image that reaches from -1 to 1
FREQUENCY = (7.0, 11.0)  # of the texture, in radians per radius
DARK = (0.25, 0.5)  # brightness of a texture's darker color: dark, but its hue still shows
LEAST_CONTRAST = 0.35  # between the brightness of a texture's two colors
TILT = math.radians(30)  # of the shape, to either side; the texture is rotated by any angle
BACKGROUND = (0.3, 0.7)  # brightness per channel
BACKGROUND_SPREAD = 0.1  # standard deviation of the uneven background, before it is smoothed
BACKGROUND_CELLS = 5
NOISE = 0.06  # standard deviation of the pixel noise

Field = Callable[[Tensor, Tensor], Tensor]
"""A function of two coordinates, evaluated at all pixels at once."""


@dataclass(frozen=True)
class Layout:
    """How many shapes, textures and color schemes make up the classes."""

    shapes: int
    textures: int
    schemes: int


LAYOUTS = {10: Layout(5, 2, 1), 20: Layout(5, 4, 1), 100: Layout(5, 5, 4)}
"""Number of classes -> layout."""


# Shapes: signed distances in units of the radius, negative inside. u and v are the coordinates of
# the shape, across and down.
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


# Textures: waves, positive in one color and negative in the other. u and v are in radians.
def _stripes(u: Tensor, v: Tensor) -> Tensor:
    return torch.sin(u) + 0 * v  # 0 * v brings the result to the shape of both


def _checks(u: Tensor, v: Tensor) -> Tensor:
    return torch.sin(u) * torch.sin(v) * 1.5


def _zigzag(u: Tensor, v: Tensor) -> Tensor:
    return torch.sin(u + 2 * torch.sin(v))


def _circles(u: Tensor, v: Tensor) -> Tensor:
    return torch.sin(torch.hypot(u, v))


def _dots(u: Tensor, v: Tensor) -> Tensor:
    return torch.cos(u) + torch.cos(v) - 1


SHAPE_DRAWERS: tuple[Field, ...] = (_disc, _square, _triangle, _ring, _cross)
TEXTURES: tuple[Field, ...] = (_stripes, _checks, _dots, _circles, _zigzag)
# Per row: the hue of the second color relative to the first, in turns, and the saturation of each.
COLOR_SCHEMES = torch.tensor([[0.0, 0.9, 0.9], [0.5, 0.9, 0.9], [0.25, 0.9, 0.9], [0.0, 0.9, 0.0]])


def shapes(request: Request) -> RawSplits:
    """Draw color images from 0 to 1, the same number of each class, in random order.

    The same request gives the same images, and training and test images never come from the same
    random numbers.

    Args:
        request: ``classes`` is 10, 20 or 100; ``seed``, ``size`` and the numbers of images.

    Shapes:
        The images are [N, 3, size, size], the labels [N].

    Raises:
        DataError: ``classes`` for other numbers of classes, ``too-large``.
    """
    classes = DEFAULT_CLASSES if request.classes is None else request.classes
    if classes not in LAYOUTS:
        known = ", ".join(map(str, LAYOUTS))
        raise DataError("classes", f"shapes come in {known} classes, not {classes}; take one")
    size = request.size or DEFAULT_SIZE
    train_size = request.train_size or DEFAULT_TRAIN
    test_size = request.test_size or DEFAULT_TEST
    channels = max(_COLOR_CHANNELS, request.channels or 0)
    check_memory("shapes", train_size + test_size, channels, size)
    # Even seeds for training and odd ones for testing, so that no two seeds share images.
    train_generator = torch.Generator().manual_seed(2 * request.seed)
    test_generator = torch.Generator().manual_seed(2 * request.seed + 1)
    train = _draw(train_size, classes, size, train_generator)
    test = _draw(test_size, classes, size, test_generator)
    return RawSplits(train, test, classes)


@dataclass(frozen=True)
class _Kinds:
    """Per image [N]: the index of its shape, of its texture and of its color scheme."""

    shape: Tensor
    texture: Tensor
    scheme: Tensor


def _draw(count: int, classes: int, size: int, generator: torch.Generator) -> DataSet:
    """Draw one split. The order of the random draws is part of the data set: do not change it."""
    labels = torch.arange(count)[torch.randperm(count, generator=generator)] % classes
    kinds = _kinds(labels, LAYOUTS[classes], generator)
    # Coordinates of the shape: centered, in radii, rotated.
    across, down = _pixel_coordinates(size)
    radius = _uniform(count, *RADIUS, generator=generator)
    u, v = _place_randomly(across, down, radius, generator)
    tilt = _uniform(count, -TILT, TILT, generator=generator)
    u, v = _rotate(u, v, tilt)
    # Distance to the edge in pixels; the sigmoid blends the pixels on the edge (antialiasing).
    distance = _evaluate(SHAPE_DRAWERS, kinds.shape, u, v)
    inside = torch.sigmoid(-distance * radius * size)  # [N, size, size]
    wave = _waves(kinds.texture, u, v, generator)
    first, second = _two_colors(kinds.scheme, generator)
    figure = torch.lerp(first, second, torch.sigmoid(4 * wave)[:, None])  # [N, 3, size, size]
    images = torch.lerp(_background(count, size, generator), figure, inside[:, None])
    images += NOISE * torch.randn(images.shape, generator=generator)
    return DataSet(images.clamp_(0, 1), labels)


def _kinds(labels: Tensor, layout: Layout, generator: torch.Generator) -> _Kinds:
    """Split labels into indices: label = shape + shapes * (texture + textures * scheme)."""
    rest, shape = labels // layout.shapes, labels % layout.shapes
    scheme = rest // layout.textures
    if layout.schemes == 1:  # the class does not decide the scheme, so it is nuisance
        scheme = torch.randint(len(COLOR_SCHEMES), labels.shape, generator=generator)
    return _Kinds(shape, rest % layout.textures, scheme)


def _uniform(count: int, low: float, high: float, *, generator: torch.Generator) -> Tensor:
    """Draw numbers from ``low`` to ``high``, [count, 1, 1]."""
    return low + (high - low) * torch.rand(count, 1, 1, generator=generator)


def _random_angle(count: int, generator: torch.Generator) -> Tensor:
    return _uniform(count, 0, 2 * math.pi, generator=generator)


def _pixel_coordinates(size: int) -> tuple[Tensor, Tensor]:
    """Return the pixel centers across [1, 1, size] and down [1, size, 1], from -1 to 1."""
    centers = (torch.arange(size) + 0.5) * (2 / size) - 1
    return centers[None, None, :], centers[None, :, None]


def _place_randomly(
    across: Tensor, down: Tensor, radius: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return coordinates around a random center, in radii; the shape stays within the image."""
    count, free = len(radius), 1 - radius
    center_across = free * _uniform(count, -1, 1, generator=generator)
    center_down = free * _uniform(count, -1, 1, generator=generator)
    return (across - center_across) / radius, (down - center_down) / radius


def _rotate(u: Tensor, v: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    cos, sin = torch.cos(angle), torch.sin(angle)
    return u * cos + v * sin, v * cos - u * sin


def _evaluate(fields: tuple[Field, ...], which: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Return ``fields[which[i]]`` at image i; each field is computed for its own images only."""
    values = torch.empty_like(u)
    for index, field in enumerate(fields):
        selected = which == index
        values[selected] = field(u[selected], v[selected])
    return values


def _waves(texture: Tensor, u: Tensor, v: Tensor, generator: torch.Generator) -> Tensor:
    """Evaluate the textures, each with a random frequency, direction and phase."""
    count = len(texture)
    frequency = _uniform(count, *FREQUENCY, generator=generator)
    u, v = _rotate(u * frequency, v * frequency, _random_angle(count, generator))
    u = u + _random_angle(count, generator)
    v = v + _random_angle(count, generator)
    return _evaluate(TEXTURES, texture, u, v)


def _two_colors(scheme: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw the two colors of each texture, [N, 3, 1, 1]; which one is brighter is random."""
    count = len(scheme)
    shift, first_saturation, second_saturation = COLOR_SCHEMES[scheme].unbind(1)
    hue, dark, light, swap = torch.rand(4, count, generator=generator).unbind(0)
    dark = DARK[0] + (DARK[1] - DARK[0]) * dark
    light = dark + LEAST_CONTRAST + (1 - LEAST_CONTRAST - dark) * light
    swapped = swap < 0.5
    first = _hsv_to_rgb(hue, first_saturation, torch.where(swapped, light, dark))
    second = _hsv_to_rgb(hue + shift, second_saturation, torch.where(swapped, dark, light))
    return first[..., None, None], second[..., None, None]


def _hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Convert HSV [N] each, from 0 to 1 (the hue in turns), to RGB [N, 3]."""
    sectors = (hue[:, None] * 6 + torch.tensor([5.0, 3.0, 1.0])) % 6
    strength = torch.minimum(sectors, 4 - sectors).clamp(0, 1)
    return value[:, None] * (1 - saturation[:, None] * strength)


def _background(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Draw one random color per image with smooth unevenness, [N, 3, size, size]."""
    cells = torch.randn(count, 3, BACKGROUND_CELLS, BACKGROUND_CELLS, generator=generator)
    cells = cells * BACKGROUND_SPREAD
    brightness = torch.rand(count, 3, 1, 1, generator=generator)
    cells += BACKGROUND[0] + (BACKGROUND[1] - BACKGROUND[0]) * brightness
    # Few random cells, stretched bilinearly over the image, are smooth noise.
    return F.interpolate(cells, (size, size), mode="bilinear", align_corners=False)
