"""A view of a grown model that moves entries across a border of dimensions counts as failed."""

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.coupling.view_log import RegroupedError, ViewLog
from tests.networks import randomised

HEADS, SIZE, TIME = 2, 3, 4


class Attention(nn.Module):
    """The number of heads is an attribute, and any length of a sequence fits the view."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.size = HEADS, SIZE
        self.q, self.k, self.v = (nn.Linear(5, HEADS * SIZE) for _ in range(3))
        self.out = nn.Linear(HEADS * SIZE, 5)

    def split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], -1, self.heads, self.size).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
        mixed = torch.softmax(q @ k.transpose(2, 3) / 2.0, -1) @ v
        return self.out(mixed.transpose(1, 2).reshape(x.shape[0], x.shape[1], -1))


@pytest.mark.parametrize("time", [TIME, 3])  # one that the trial's heads divide, and one not
@pytest.mark.parametrize("how", ["split", "new"])
def test_heads_follow_whatever_the_length_of_a_sequence(how: str, time: int) -> None:
    model, x = randomised(Attention()), torch.randn(2, time, 5, dtype=torch.float64)
    coupling = fxgrow.couple(model, x)
    assert [width.size for width in coupling.widths if width.growable] == [HEADS]
    wider = fxgrow.widen(model, {"q": 2}, x, how=how).module
    assert wider.heads == HEADS + 2
    other = torch.randn(3, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(wider(other), model(other), rtol=1e-12, atol=1e-12)


class Constant(Attention):
    """The number of heads is a constant in the code, which nothing can change."""

    def split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], -1, 2, 3).transpose(1, 2)


def test_a_constant_number_of_heads_is_refused_with_its_line() -> None:
    coupling = fxgrow.couple(Constant(), torch.randn(2, TIME, 5))
    refusal = coupling.by_name["q"].refusal
    assert refusal is not None
    assert "test_view_log.py" in refusal.nodes[0]


def recorded(before: tuple[list[int], list[int]], after: tuple[list[int], list[int]]) -> None:
    log = ViewLog([(tuple(before[0]), tuple(before[1]))])
    log.record(*after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (([2, 12, 32], [2, 12, 4, 8]), ([2, 12, 72], [2, 12, 9, 8])),  # heads split off
        (([2, 12, 4, 8], [24, 32]), ([2, 12, 9, 8], [24, 72])),
        (([2, 1, 7], [2, 7]), ([2, 3, 7], [2, 21])),  # one neuron becomes three
        (([6, 4], [24]), ([9, 4], [36])),
        (([2, 12, 32], [2, 12, 4, 8]), ([2, 72], [2, 9, 8])),  # another way through the code
    ],
)
def test_borders_that_are_kept(
    before: tuple[list[int], list[int]], after: tuple[list[int], list[int]]
) -> None:
    recorded(before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (([2, 12, 32], [2, 12, 4, 8]), ([2, 12, 72], [2, 27, 4, 8])),
        (([24, 32], [2, 12, 32]), ([24, 72], [4, 12, 36])),
    ],
)
def test_borders_that_are_crossed(
    before: tuple[list[int], list[int]], after: tuple[list[int], list[int]]
) -> None:
    with pytest.raises(RegroupedError):
        recorded(before, after)
