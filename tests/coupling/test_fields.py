import pytest
import torch

from fxgrow.coupling.fields import (
    axis_field,
    by_support,
    field_core,
    field_support,
    flat_labels,
    place_field,
    spread_field,
    squash,
)

LABELS = torch.arange(1, 5).numpy()


def test_a_field_costs_its_labels_only() -> None:
    field = axis_field(LABELS, 1, (100, 4, 50, 50))
    assert field.untyped_storage().nbytes() == 4 * 8
    assert field_support(field) == (1,)
    assert field[7, 2, 3, 4] == 3
    assert flat_labels(field).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("size", [1, 4])
def test_views_keep_the_support(size: int) -> None:
    field = axis_field(LABELS[:size], 1, (2, size, 3))
    assert field_support(field.transpose(0, 1)) == (0,)
    assert field_support(field.permute(2, 0, 1)) == (2,)
    assert field_support(field.select(0, 1)) == (0,)
    assert field_support(field[:, :, 1:]) == (1,)


def test_core_drops_constant_dimensions() -> None:
    field = spread_field(torch.arange(6).view(2, 3), (0, 2), (2, 5, 3))
    assert field_core(field).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_place_moves_and_reorders() -> None:
    field = spread_field(torch.arange(6).view(2, 3), (0, 1), (2, 3))
    moved = place_field(field, [2, 0], (3, 7, 2))
    assert moved is not None
    assert field_support(moved) == (0, 2)
    assert field_core(moved).tolist() == [[0, 3], [1, 4], [2, 5]]


def test_place_gives_up_a_field_that_loses_a_dimension() -> None:
    assert place_field(axis_field(LABELS, 0, (4, 2)), [None, 0], (2,)) is None


def test_squash_finds_constant_dimensions() -> None:
    dense = torch.tensor([[1, 1], [2, 2]])
    assert field_support(squash(dense)) == (0,)
    assert torch.equal(squash(dense), dense)


def test_the_first_field_of_a_support_wins_and_constants_are_dropped() -> None:
    first, second = axis_field(LABELS, 0, (4, 2)), axis_field(LABELS + 4, 0, (4, 2))
    constant = spread_field(torch.tensor(0), (), (4, 2))
    found = by_support([first, second, constant])
    assert list(found) == [(0,)]
    assert found[0,] is first
