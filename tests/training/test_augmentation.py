"""What becomes of training images: each transform by itself, and that images draw one by one."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from fxgrow.data import Splits
from fxgrow.errors import ArgumentError, TrainingError
from fxgrow.training import Augmentation, training_batches
from fxgrow.training.augmentation import augmented, require_augmentation

pytest.importorskip("torchvision")


def first(data: Splits, augmentation: Augmentation, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """The first batch as it is, as it becomes, and its labels."""
    plain = training_batches(data.train, 16, torch.Generator().manual_seed(0))
    images, _ = next(iter(plain))
    torch.manual_seed(seed)
    again = training_batches(data.train, 16, torch.Generator().manual_seed(0))
    changed, labels = next(iter(augmented(again, augmentation, data)))
    return images, changed, labels


def test_without_augmentation_it_is_the_same_object(digits: Splits) -> None:
    train = training_batches(digits.train, 16, torch.Generator())
    assert augmented(train, Augmentation(), digits) is train


def test_a_flip_mirrors(digits: Splits) -> None:
    images, changed, _ = first(digits, Augmentation(flip=1.0))
    assert torch.equal(changed, images.flip(-1))


def test_images_draw_one_by_one(digits: Splits) -> None:
    images, changed, _ = first(digits, Augmentation(flip=0.5))
    mirrored = [torch.equal(new, old.flip(-1)) for new, old in zip(changed, images, strict=True)]
    same = [torch.equal(new, old) for new, old in zip(changed, images, strict=True)]
    assert any(mirrored) and any(same)
    assert all(a or b for a, b in zip(mirrored, same, strict=True))


def test_a_crop_is_a_part_of_the_image_with_a_black_border(digits: Splits) -> None:
    images, changed, _ = first(digits, Augmentation(crop=2))
    black = -digits.mean[0] / digits.std[0]
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2), value=black)
    for old, new in zip(padded, changed, strict=True):
        parts = [old[:, i : i + 8, j : j + 8] for i in range(5) for j in range(5)]
        assert any(torch.allclose(new, part) for part in parts)
    assert not torch.equal(changed, images)


def test_rand_augment_sees_pixels_and_gives_normalized_images(digits: Splits) -> None:
    images, changed, _ = first(digits, Augmentation(rand_augment=2, magnitude=20))
    assert changed.shape == images.shape and not torch.equal(changed, images)
    pixels = changed * digits.std[0] + digits.mean[0]
    assert pixels.min() > -1e-5 and pixels.max() < 1 + 1e-5
    # Identity, of magnitude 0 or by chance, is the image itself: it was taken apart and put together.
    _, kept, _ = first(digits, Augmentation(rand_augment=1, magnitude=0))
    differences = (kept - images).abs().amax((1, 2, 3))
    assert (differences < 1e-5).any()


def test_erasing_leaves_a_patch_of_the_mean(digits: Splits) -> None:
    images, changed, _ = first(digits, Augmentation(erase=1.0))
    touched = changed != images
    assert (changed[touched] == 0).all() and touched.flatten(1).any(1).float().mean() > 0.8


def test_mixup_mixes_images_and_labels_alike(digits: Splits) -> None:
    images, changed, weights = first(digits, Augmentation(mixup=1.0))
    _, _, labels = first(digits, Augmentation(flip=1.0))
    assert weights.shape == (16, 10)
    torch.testing.assert_close(weights.sum(1), torch.ones(16))
    before = labels.roll(1, 0)
    rows = labels != before
    share = weights[rows, labels[rows]][0]
    assert 0 < share < 1
    torch.testing.assert_close(changed, share * images + (1 - share) * images.roll(1, 0))


@pytest.mark.parametrize("alpha", [1e-3, 1e-2, 1.0, 100.0])
def test_every_mixup_is_a_number(digits: Splits, alpha: float) -> None:
    for seed in range(20):
        _, changed, weights = first(digits, Augmentation(mixup=alpha), seed)
        assert changed.isfinite().all() and weights.isfinite().all()


ALL = Augmentation(flip=0.5, crop=1, rand_augment=2, erase=0.5, mixup=0.4)


def test_a_seed_gives_the_same_and_every_pass_another(digits: Splits) -> None:
    assert torch.equal(first(digits, ALL)[1], first(digits, ALL)[1])
    assert not torch.equal(first(digits, ALL)[1], first(digits, ALL, seed=1)[1])
    kept = augmented(training_batches(digits.train, 16, torch.Generator()), ALL, digits)
    assert not torch.equal(next(iter(kept))[0], next(iter(kept))[0])


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"flip": 1.5}, "flip=1.5"),
        ({"crop": -1}, "crop=-1"),
        ({"magnitude": 3}, "no effect without rand_augment"),
        ({"mixup": 1e-9}, "mixes nothing"),
        ({"mixup": float("nan")}, "mixup"),
        ({"cutout": 0.5}, "it has flip, crop"),
    ],
)
def test_wrong_settings(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ArgumentError, match=sentence) as caught:
        Augmentation(**values)
    assert caught.value.code == "bad-setting"


def test_what_the_images_do_not_allow_is_refused(digits: Splits) -> None:
    require_augmentation(Augmentation(crop=7), digits)
    with pytest.raises(TrainingError, match=r"crop=8 cuts images of 8 x 8 .* less than 8"):
        require_augmentation(Augmentation(crop=8), digits)
    two = replace(digits, train=replace(digits.train, images=torch.zeros(97, 2, 8, 8)))
    with pytest.raises(TrainingError, match="these have 2 channels"):
        require_augmentation(Augmentation(rand_augment=1), two)
