"""What growth steps of a run are asked for, and the batches that they see."""

from typing import Any

import pytest
import torch

from fxgrow.data import Splits
from fxgrow.growth import ALL_WIDTHS, Budget
from fxgrow.methods import ZeroOutgoing
from fxgrow.training import RunSettings
from fxgrow.training.growth_request import GrowthRequest, count_examples, growth_batches

SETTINGS = RunSettings(epochs=2, grow_steps=1, growth_batch_size=30)


def test_examples_are_counted_by_the_first_tensor_with_an_axis() -> None:
    inputs: tuple[Any, ...] = (torch.zeros(()), {"image": torch.zeros(5, 2)})
    assert GrowthRequest(inputs, ZeroOutgoing(), Budget(neurons=1), ALL_WIDTHS).examples == 5
    assert count_examples((torch.zeros(3, 2), torch.zeros(4))) == 3
    assert count_examples(torch.zeros(())) == count_examples(()) == 1
    assert count_examples((torch.zeros(0),)) == 1


@pytest.mark.parametrize(
    ("size", "limit", "sizes"), [(30, None, [30] * 3), (30, 2, [30] * 2), (500, None, [97])]
)
def test_growth_batches_are_full_and_no_larger_than_the_data(
    digits: Splits, size: int, limit: int | None, sizes: list[int]
) -> None:
    changes = {"growth_batch_size": size, "growth_batches": limit}
    settings = SETTINGS.model_copy(update=changes)
    drawn = growth_batches(settings, digits.train, torch.Generator().manual_seed(1))
    assert [len(labels) for _, labels in drawn] == sizes


def test_growth_batches_are_drawn_by_their_generator_alone(digits: Splits) -> None:
    def drawn(seed: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return [labels for _, labels in growth_batches(SETTINGS, digits.train, generator)]

    before = torch.get_rng_state()
    first, again, other = drawn(1), drawn(1), drawn(2)
    assert all(map(torch.equal, first, again)) and not all(map(torch.equal, first, other))
    assert torch.equal(torch.get_rng_state(), before)
