import pytest
import torch

from fxgrow.cells import CellKind, cell_positions, layout
from fxgrow.cells.stack import auxiliary_position, preprocess, stem
from fxgrow.errors import ModelError
from tests.cells.modules import parameters


# Reductions at one and at two thirds; where two would fall together there is one.
@pytest.mark.parametrize(
    ("layers", "kinds", "auxiliary"),
    [(1, "r", 0), (2, "rr", 1), (3, "nrr", 2), (5, "nrnrn", 3), (8, "nnrnnrnn", 5), (11, "nnnrnnnrnnn", 7)],
)  # fmt: skip
def test_where_reductions_are(layers: int, kinds: str, auxiliary: int) -> None:
    assert "".join(kind[0] for kind in layout(layers)) == kinds
    assert auxiliary_position(layers) == auxiliary


def test_the_sizes_of_every_cell() -> None:
    sizes = [
        (place.older, place.newer, place.channels, place.after_reduction)
        for place in cell_positions(5, 4, 4, 3)
    ]
    assert sizes == [
        (12, 12, 4, False),
        (12, 16, 8, False),
        (16, 24, 8, True),
        (24, 32, 16, False),
        (32, 48, 16, True),
    ]


def test_only_inputs_of_a_reduction_cell_are_halved() -> None:
    normal, reduction = cell_positions(3, 4, 4, 4)[:2]
    assert [normal.stride(source) for source in range(4)] == [1, 1, 1, 1]
    assert [reduction.stride(source) for source in range(4)] == [2, 2, 1, 1]
    assert (normal.kind, reduction.kind) == (CellKind.NORMAL, CellKind.REDUCE)


def test_preprocessing_gives_both_inputs_the_same_form() -> None:
    for place, side in zip(cell_positions(5, 4, 4, 3)[1:3], (8, 16), strict=True):
        older, newer = preprocess(place, affine=False)
        shapes = [
            older(torch.randn(2, place.older, side, side)).shape,
            newer(torch.randn(2, place.newer, 8, 8)).shape,
        ]
        assert shapes == [(2, place.channels, 8, 8)] * 2
        assert parameters(older) == place.older * place.channels


def test_the_stem_keeps_the_size() -> None:
    assert stem(5)(torch.randn(2, 3, 7, 7)).shape == (2, 15, 7, 7)
    assert parameters(stem(5)) == 3 * 15 * 9 + 2 * 15


@pytest.mark.parametrize(
    ("layers", "channels", "words"), [(0, 4, "0 cells"), (-1, 4, "-1 cells"), (3, 0, "0 channels")]
)
def test_stacks_of_nothing(layers: int, channels: int, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        cell_positions(layers, channels, 4, 4)
    assert caught.value.code == "model-options"
