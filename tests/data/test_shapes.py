import pytest
import torch

from fxgrow.data.request import Request
from fxgrow.data.shapes import (
    COLOR_SCHEMES,
    LAYOUTS,
    SHAPE_DRAWERS,
    TEXTURES,
    _hsv_to_rgb,
    _kinds,
    shapes,
)
from fxgrow.errors import DataError


@pytest.mark.parametrize("classes", LAYOUTS)
def test_classes_are_balanced_and_pixels_lie_in_range(classes: int) -> None:
    raw = shapes(Request(classes=classes, train_size=2 * classes, test_size=classes, size=16))
    assert torch.bincount(raw.train.labels).tolist() == [2] * classes
    assert raw.test.images.shape == (classes, 3, 16, 16)
    assert raw.train.images.min() >= 0
    assert raw.train.images.max() <= 1
    assert raw.classes == classes


@pytest.mark.parametrize("classes", LAYOUTS)
def test_every_class_is_another_combination_of_kinds_that_exist(classes: int) -> None:
    layout = LAYOUTS[classes]
    kinds = _kinds(torch.arange(classes), layout, torch.Generator())
    scheme = kinds.scheme if layout.schemes > 1 else torch.zeros_like(kinds.shape)
    combinations = set(
        zip(kinds.shape.tolist(), kinds.texture.tolist(), scheme.tolist(), strict=True)
    )
    assert len(combinations) == classes
    assert kinds.shape.max() < len(SHAPE_DRAWERS)
    assert kinds.texture.max() < len(TEXTURES)
    assert kinds.scheme.max() < len(COLOR_SCHEMES)


def test_the_seed_decides_and_the_splits_differ() -> None:
    first, again, other = (
        shapes(Request(seed=seed, train_size=20, test_size=20)) for seed in (1, 1, 2)
    )
    assert torch.equal(first.train.images, again.train.images)
    assert torch.equal(first.test.labels, again.test.labels)
    assert not torch.equal(first.train.images, other.train.images)
    assert not torch.equal(first.train.images, first.test.images)
    # The test images of one seed must not turn up as the training images of the next.
    assert not torch.equal(first.test.images, other.train.images)


def test_torchs_default_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    shapes(Request(train_size=10, test_size=10))
    assert torch.equal(before, torch.get_rng_state())


def test_other_numbers_of_classes_are_refused() -> None:
    with pytest.raises(DataError, match="10, 20, 100 classes, not 7"):
        shapes(Request(classes=7))


def test_shapes_differ_in_area_and_none_reaches_beyond_its_radius() -> None:
    grid = torch.linspace(-1.5, 1.5, 151)
    u, v = grid[None, :].expand(151, 151), grid[:, None].expand(151, 151)
    inside = torch.stack([shape(u, v) < 0 for shape in SHAPE_DRAWERS])
    assert not inside[:, torch.hypot(u, v) > 1.1].any()
    assert inside.flatten(1).any(1).all()
    areas = inside.flatten(1).float().mean(1)
    assert len({round(float(area), 3) for area in areas}) == len(SHAPE_DRAWERS)


def test_colours_are_those_of_hsv() -> None:
    hue = torch.tensor([0.0, 1 / 3, 2 / 3, 1 / 6, 0.5])
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]]
    assert torch.allclose(
        _hsv_to_rgb(hue, torch.ones(5), torch.ones(5)), torch.tensor(expected).float(), atol=1e-5
    )
    assert torch.allclose(
        _hsv_to_rgb(hue, torch.zeros(5), torch.full((5,), 0.3)), torch.full((5, 3), 0.3)
    )


def test_a_linear_classifier_sees_little() -> None:
    """Ridge regression to one-hot labels, in closed form; chance is 0.1, a small convolutional net passes 0.8."""
    raw = shapes(Request(train_size=800, test_size=200, size=16))
    features, unseen = (part.images.flatten(1) - 0.5 for part in (raw.train, raw.test))
    gram = features @ features.T + 50 * torch.eye(len(features))
    targets = torch.nn.functional.one_hot(raw.train.labels, 10).float()
    guess = (unseen @ features.T @ torch.linalg.solve(gram, targets)).argmax(1)
    assert (guess == raw.test.labels).float().mean() < 0.6
