"""Where new blocks lie in a list, what they are called, and the numbers that they hold."""

from typing import Any

import pytest
import torch
from torch import nn

from fxgrow.errors import GrowthError
from fxgrow.growth.block_lists import (
    block_list,
    draw_weights,
    insert_blocks,
    layout_of,
    middle_order,
    order_after,
    spread_positions,
    stacked_order,
)


class Numbered(nn.Module):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.layer_idx, self.third, self.size = number, number, 1
        inner: Any = nn.Linear(2, 2)
        inner.block_id, inner.other_id = number, 2 * number
        self.inner = inner


def model(count: int) -> Any:
    whole: Any = nn.Module()
    whole.blocks = nn.ModuleList(Numbered(number) for number in range(count))
    return whole


@pytest.mark.parametrize(
    ("length", "count", "expected"),
    [(4, 1, [3]), (4, 2, [1, 3]), (6, 4, [0, 2, 3, 5]), (3, 3, [0, 1, 2]), (2, 3, [0, 0, 1])],
)
def test_spread_evenly(length: int, count: int, expected: list[int]) -> None:
    assert spread_positions(length, count) == expected


def test_orders() -> None:
    def sources(order: Any) -> list[str]:
        return [f"{source}{'*' if is_new else ''}" for source, is_new in order]

    assert sources(order_after(2, [0, 0])) == ["0", "0*", "0*", "1"]
    assert sources(stacked_order(2, 3)) == ["0", "1", "0*", "1*", "0*"]
    assert sources(middle_order(5, 3)) == ["0", "1", "2", "3", "1*", "2*", "3*", "4"]


def test_numbers_of_blocks_follow_and_other_numbers_stay() -> None:
    whole = model(3)
    insert_blocks(whole, layout_of(whole.blocks, "blocks", order_after(3, [0])))
    blocks = whole.blocks
    assert [block.layer_idx for block in blocks] == [0, 1, 2, 3]
    assert [block.third for block in blocks] == [0, 1, 2, 3]
    assert [block.inner.block_id for block in blocks] == [0, 1, 2, 3]
    assert [block.inner.other_id for block in blocks] == [0, 0, 2, 4]
    assert [block.size for block in blocks] == [1, 1, 1, 1]


def test_of_two_blocks_only_known_names_are_numbers() -> None:
    whole = model(2)
    insert_blocks(whole, layout_of(whole.blocks, "blocks", order_after(2, [1])))
    assert [block.layer_idx for block in whole.blocks] == [0, 1, 2]
    assert [block.third for block in whole.blocks] == [0, 1, 1]


def test_names_count_on() -> None:
    named = nn.Sequential()
    for number in (1, 2):
        named.add_module(f"layer_{number}", nn.Linear(2, 2))
    layout = layout_of(named, "", order_after(2, [1]))
    assert layout.new_names == ("layer_1", "layer_2", "layer_3")
    assert layout.new_blocks == {"layer_3": "layer_2"}


@pytest.mark.parametrize("names", [("stem", "body"), ("layer_1", "layer_3"), ("0", "head")])
def test_names_that_do_not_count(names: tuple[str, str]) -> None:
    named = nn.Sequential()
    for name in names:
        named.add_module(name, nn.Linear(2, 2))
    with pytest.raises(GrowthError, match="no name for one more") as refusal:
        layout_of(named, "", order_after(2, [1]))
    assert refusal.value.code == "bad-blocks"


def test_an_unknown_list_names_those_there_are() -> None:
    with pytest.raises(GrowthError, match=r"called 'layers'; there are 'blocks'") as refusal:
        block_list(model(2), "layers")
    assert refusal.value.code == "unknown-blocks"


def test_weights_are_drawn_with_their_spread() -> None:
    layer = nn.Linear(50, 50)
    nn.init.normal_(layer.weight, std=3.0)
    before, bias = layer.weight.clone(), layer.bias.clone()
    draw_weights(layer.parameters(), torch.Generator().manual_seed(0))
    assert not torch.equal(layer.weight, before) and torch.equal(layer.bias, bias)
    assert float(layer.weight.detach().std()) == pytest.approx(3.0, rel=0.1)
