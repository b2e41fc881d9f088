import pytest
import torch

from fxgrow.data import load_data
from fxgrow.data.digits import digits
from fxgrow.data.request import Request


def test_the_split_is_stratified_and_covers_every_image_once() -> None:
    raw = digits(Request())
    assert (len(raw.train), len(raw.test), raw.classes) == (1437, 360, 10)
    train, test = (
        torch.bincount(part.labels, minlength=10) / len(part) for part in (raw.train, raw.test)
    )
    assert torch.allclose(train, test, atol=0.01)
    datasets = pytest.importorskip("sklearn.datasets")
    ours = torch.cat([raw.train.images, raw.test.images]).flatten(1) * 16
    theirs = torch.tensor(datasets.load_digits().data, dtype=torch.float32)
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, theirs.tolist()))


def test_the_seed_leaves_the_split_alone() -> None:
    first, second = digits(Request(seed=0)), digits(Request(seed=1))
    assert torch.equal(first.test.images, second.test.images)
    assert torch.equal(first.train.labels, second.train.labels)


def test_images_belong_to_their_labels() -> None:
    """Nearest class mean is right for about nine in ten; labels that went astray would make it one in ten."""
    raw = digits(Request())
    pixels = raw.train.images.flatten(1)
    means = torch.stack([pixels[raw.train.labels == label].mean(0) for label in range(10)])
    guess = torch.cdist(raw.test.images.flatten(1), means).argmin(1)
    assert (guess == raw.test.labels).float().mean() > 0.85


@pytest.mark.parametrize(
    ("channels", "size", "shape"), [(None, None, (3, 32, 32)), (1, 8, (1, 8, 8))]
)
def test_shape(channels: int | None, size: int | None, shape: tuple[int, ...]) -> None:
    splits = load_data("digits", channels=channels, size=size, train_size=30, test_size=20)
    assert splits.shape == shape
    assert splits.test.images.shape[1:] == shape
    assert (len(splits.train), len(splits.test)) == (30, 20)
    assert (splits.train.images.dtype, splits.train.labels.dtype) == (torch.float32, torch.int64)
