import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fxgrow.data.sets import DataSet, RawSplits, batches, fit_images, make_splits
from fxgrow.errors import ArgumentError, DataError


def numbered(count: int) -> DataSet:
    """Image i is filled with i and labelled i."""
    numbers = torch.arange(count)
    return DataSet(numbers.float().view(-1, 1, 1, 1).expand(-1, 3, 2, 2), numbers)


@given(
    count=st.integers(0, 30),
    size=st.integers(1, 12),
    limit=st.none() | st.integers(0, 5),
    drop=st.booleans(),
)
def test_batches_cover_the_data_once_in_order(
    count: int, size: int, limit: int | None, drop: bool
) -> None:
    loader = batches(numbered(count), size, limit=limit, drop_last=drop)
    seen = list(loader)
    whole = count - count % size if drop else count
    expected = range(whole if limit is None else min(whole, limit * size))
    assert [label for _, labels in seen for label in labels.tolist()] == list(expected)
    assert len(seen) == len(loader)
    assert all(len(labels) == size for _, labels in seen[:-1])


def test_shuffled_batches_keep_images_with_their_labels_and_depend_on_the_generator_only() -> None:
    def orders(seed: int) -> list[list[int]]:
        loader = batches(
            numbered(20), 7, shuffle=True, generator=torch.Generator().manual_seed(seed)
        )
        for images, labels in loader:
            assert torch.equal(images[:, 0, 0, 0], labels.float())
        return [[int(label) for _, labels in loader for label in labels] for _ in range(2)]

    first, again, other = orders(1), orders(1), orders(2)
    assert first == again != other
    assert first[0] != first[1]
    assert sorted(first[0]) == list(range(20))


def test_shuffling_without_a_generator_follows_torch_manual_seed() -> None:
    loader = batches(numbered(50), 50, shuffle=True)
    torch.manual_seed(3)
    [(_, first)] = loader
    torch.manual_seed(3)
    [(_, second)] = loader
    assert torch.equal(first, second)
    assert first.tolist() != list(range(50))


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(DataError, match="batch size of 0"):
        batches(numbered(3), 0)


def test_images_and_labels_have_to_pair() -> None:
    with pytest.raises(DataError, match="3 images came with 2 labels"):
        DataSet(torch.zeros(3, 1, 2, 2), torch.zeros(2))


def test_a_data_set_indexes_like_torchs_own() -> None:
    image, label = numbered(5)[3]
    assert image.shape == (3, 2, 2)
    assert image[0, 0, 0] == label == 3


def test_first_takes_at_most_what_there_is() -> None:
    data = numbered(4)
    assert [len(data.first(count)) for count in (2, 9, None)] == [2, 4, 4]


def test_fit_repeats_averages_and_resizes() -> None:
    grey, coloured = torch.rand(2, 1, 4, 4), torch.rand(2, 3, 4, 4)
    assert torch.equal(fit_images(grey, 3, None), grey.expand(-1, 3, -1, -1))
    assert torch.allclose(fit_images(coloured, 1, 4)[:, 0], coloured.mean(1))
    assert fit_images(coloured, None, None) is coloured
    flat = torch.full((1, 3, 4, 4), 0.25)
    assert torch.allclose(fit_images(flat, 3, 7), torch.full((1, 3, 7, 7), 0.25))


def test_fit_refuses_channels_it_cannot_make() -> None:
    with pytest.raises(DataError, match="3 channels cannot be turned into 4"):
        fit_images(torch.zeros(1, 3, 2, 2), 4, None)


def test_splits_move_as_a_whole() -> None:
    raw = DataSet(torch.rand(4, 1, 2, 2), torch.arange(4))
    there = make_splits("random", RawSplits(raw, raw, 4), channels=None, size=None).to("meta")
    assert all(x.is_meta for part in (there.train, there.test) for x in (part.images, part.labels))
    assert (there.name, there.classes, there.shape) == ("random", 4, (1, 2, 2))


def test_finish_normalises_with_the_training_images_alone() -> None:
    labels = torch.arange(6)
    train, test = (torch.rand(6, 3, 4, 4) * scale for scale in (1.0, 5.0))
    train[:, 2] = 0.5  # a constant channel must not be divided by zero
    splits = make_splits(
        "random",
        RawSplits(DataSet(train, labels), DataSet(test, labels), 6),
        channels=None,
        size=None,
    )
    images = splits.train.images
    assert torch.allclose(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(
        images.std((0, 2, 3), correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5
    )
    mean, std = (torch.tensor(values)[:, None, None] for values in (splits.mean, splits.std))
    assert torch.allclose(splits.test.images * std + mean, test, atol=1e-5)
    assert splits.shape == (3, 4, 4)


def test_images_that_are_not_there_cannot_be_picked() -> None:
    data = numbered(4)
    assert len(data.pick([])) == 0
    assert data.pick([3, 3]).labels.tolist() == [3, 3]
    with pytest.raises(ArgumentError, match="indices with 4, for there are 4 images; give numbers"):
        data.pick([0, 4])
    with pytest.raises(ArgumentError, match=r"indices\[0\]=-1; give a whole number from 0"):
        data.pick([-1])
    with pytest.raises(ArgumentError, match="count=-1; give a whole number from 0"):
        data.first(-1)
