"""Where the new blocks of each list lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from fxgrow.errors import BudgetError, GrowthError
from fxgrow.growth.block_lists import (
    BlockLayout,
    block_list,
    layout_of,
    middle_order,
    order_after,
    spread_positions,
    stacked_order,
)

EXACT = ("copied", "new")
MAX_NEW_BLOCKS = 2**10
"""The kinds of new blocks that keep the function."""


@dataclass(frozen=True)
class BlockPlaces:
    """Lists that become longer.

    Args:
        layouts: one for each.
        gains: by the path of an old block, what a copy behind it promised; empty if nobody asked.
    """

    layouts: tuple[BlockLayout, ...]
    gains: Mapping[str, float] = field(default_factory=dict)


def longer_lists(
    model: nn.Module,
    blocks: Mapping[str, int | Sequence[int]],
    how: str,
    where: str,
) -> BlockPlaces:
    """The longer lists; those that get nothing are left out.

    Args:
        model: holds the lists.
        blocks, how, where: as for ``deepen``.

    Raises:
        GrowthError, BudgetError: ``unknown-blocks``, ``bad-blocks``; ``empty-budget``.
    """
    # Zeros are allowed, as for ``widen``: a caller may count per list.
    layouts = []
    for path, asked in blocks.items():
        found = block_list(model, path)
        order = _order(len(found._modules), path, asked, how, where)
        if len(order) > len(found._modules):
            layouts.append(layout_of(found, path, order))
    require_apart(layouts)
    return BlockPlaces(tuple(layouts))


def require_apart(layouts: Sequence[BlockLayout]) -> None:
    """Check that no list lies in a block of another one.

    Args:
        layouts: the longer lists.

    Raises:
        BudgetError, GrowthError: ``empty-budget`` if there are none; ``bad-blocks``.
    """
    if not layouts:
        raise BudgetError("empty-budget", "no list is to get a block; ask for at least one")
    for layout in layouts:
        for other in layouts:
            is_inside = not layout.path or other.path.startswith(f"{layout.path}.")
            if other is not layout and is_inside:
                message = f"{other.path!r} lies in a block of {layout.path!r}"
                raise bad_blocks(message, "deepen one after the other")


def _order(
    length: int, path: str, asked: int | Sequence[int], how: str, where: str
) -> list[tuple[int, bool]]:
    """For each place of a longer list the old number of a block, and whether it is a copy."""
    if not isinstance(asked, int):
        if how not in EXACT:
            message = f"how={how!r} says itself where the new blocks of {path!r} lie"
            raise bad_blocks(message, "give their number")
        _require_places(length, path, asked)
        return order_after(length, asked)
    # What is copied whole has its places by definition.
    if how == "stack":
        return stacked_order(length, asked)
    if how == "middle":
        if asked > length:
            message = f"{path!r} has {length} blocks, so {asked} have no middle there"
            raise bad_blocks(message, f"ask for {length} at most, or say how='stack'")
        return middle_order(length, asked)
    if where == "spread":
        return order_after(length, spread_positions(length, asked))
    return order_after(length, [length - 1] * asked)


def bad_blocks(what: str, advice: str) -> GrowthError:
    """The error of a number or a place that cannot be."""
    return GrowthError("bad-blocks", f"{what}; {advice}")


def _require_places(length: int, path: str, asked: Sequence[int]) -> None:
    """Check the blocks behind which new ones are to lie."""
    if len(asked) > MAX_NEW_BLOCKS:
        message = f"{path!r} would get {len(asked)} new blocks, which are made one by one"
        raise bad_blocks(message, f"ask for {MAX_NEW_BLOCKS} at most")
    wrong = [position for position in asked if position >= length]
    if wrong:
        message = f"{path!r} has {length} blocks, so none lies behind block {wrong[0]}"
        raise bad_blocks(message, f"count from 0 to {length - 1}")
