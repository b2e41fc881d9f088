"""Operators whose arguments lie partly on the meta device."""

import torch
from torch import Tensor, nn

from fxgrow.spec import multiply_adds
from fxgrow.spec.mixed_devices import MetaMeeting

aten = torch.ops.aten


def test_values_stay_among_themselves() -> None:
    args = (torch.ones(2), torch.zeros(2))
    assert MetaMeeting().arguments(aten.add.Tensor, args, {}) == (args, {})


def test_a_value_goes_to_where_there_are_none() -> None:
    args = (torch.ones(2, device="meta"), torch.zeros(2))
    (left, right), kwargs = MetaMeeting().arguments(aten.add.Tensor, args, {"device": "cpu"})
    assert left.is_meta and right.is_meta and kwargs["device"] == torch.device("meta")


def test_a_mask_with_values_picks_as_many() -> None:
    args = (torch.ones(4, device="meta"), [torch.tensor([True, False, True, True])])
    (x, indices), _ = MetaMeeting().arguments(aten.index.Tensor, args, {})
    assert aten.index.Tensor(x, indices).shape == (3,)


def test_what_was_written_into_has_no_values_any_more() -> None:
    meeting, values = MetaMeeting(), torch.zeros(3)
    meeting.arguments(aten.copy_.default, (values, torch.ones(3, device="meta")), {})
    (read,), _ = meeting.arguments(aten.relu.default, (values,), {})
    assert read.is_meta


class Scattering(nn.Module):
    """Writes what it computes into zeros of its own, and reads a size out of an integer input."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        buffer = torch.zeros(8, 6)
        buffer[: int(lengths.max())] = self.a(x)
        return self.b(buffer)


def test_a_model_with_both_counts() -> None:
    inputs = (torch.ones(4, 5), torch.tensor([2, 4]))
    assert multiply_adds(Scattering(), inputs) == 4 * 5 * 6 + 8 * 6 * 3
