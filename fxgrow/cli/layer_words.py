"""What ``--layers`` asks for: a number of residual layers, or copies of blocks of a list."""

import re
from dataclasses import dataclass

from fxgrow.documents import limits
from fxgrow.errors import ArgumentError
from fxgrow.growth import block_patterns

_COUNT = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class AddedLayers:
    """Layers that a growth step may add.

    Args:
        residual: residual layers, which are inserted into the graph.
        blocks: patterns of the lists of blocks that may get longer.
        most: the largest number of either; 0: as many as the budget buys, if there are blocks.
    """

    residual: int = 0
    blocks: tuple[str, ...] = ()
    most: int = 0


def added_layers(word: str) -> AddedLayers:
    """Read the value of ``--layers``.

    Args:
        word: ``2``, ``block:model.layers`` or ``block:layer*=2``.

    Raises:
        ArgumentError: ``bad-setting``: it is none of these.

    Example:
        >>> added_layers("block:layer*=2").blocks
        ('layer*',)
    """
    if _COUNT.fullmatch(word) and int(word) <= limits.ENTRIES:
        return AddedLayers(residual=int(word), most=int(word))
    pattern, _, count = word.partition("=")
    is_count = _COUNT.fullmatch(count) is not None and 0 < int(count) <= limits.BLOCKS
    if not pattern.startswith("block:") or not (is_count or pattern == word):
        raise ArgumentError(
            "bad-setting",
            f"--layers {word[:80]!r} is no number of layers and names no list of blocks; give a "
            f"number up to {limits.ENTRIES}, or a list and if wanted how many blocks it gets, as "
            "in block:model.layers or block:layer3=2",
        )
    return AddedLayers(blocks=block_patterns(pattern), most=int(count or 0))
