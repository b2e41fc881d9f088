"""Ties: widths that grow alike, candidate by candidate, such as those at the same place of all cells of one kind."""

from collections.abc import Sequence

from fxgrow.coupling import Coupling
from fxgrow.errors import GrowthError
from fxgrow.growth.budget import Tie
from fxgrow.growth.naming import matching_widths
from fxgrow.rewrite import Candidates


def resolve_ties(coupling: Coupling, names: Sequence[Sequence[str]]) -> tuple[Tie, ...]:
    """The ties by numbers of widths, from names of widths or patterns; one that a single width fits is none.

    Raises ``GrowthError``: ``unknown-width`` for a name that fits nothing, ``unequal-tie`` for widths of different
    size or in two ties.
    """
    numbers = {width.name: number for number, width in enumerate(coupling.widths)}
    found = [
        tuple(
            sorted(
                {numbers[width.name] for name in tie for width in matching_widths(coupling, name)}
            )
        )
        for tie in names
    ]
    taken: dict[int, Tie] = {}
    for tie in found:
        _require_equal(coupling, tie, [coupling.widths[number].size for number in tie], "neurons")
        for number in tie:
            if taken.setdefault(number, tie) != tie:
                raise GrowthError(
                    "unequal-tie",
                    f"width {coupling.widths[number].name!r} is in two ties; make them one or leave it out",
                )
    return tuple(tie for tie in dict.fromkeys(found) if len(tie) > 1)


def require_equal_candidates(
    coupling: Coupling, ties: Sequence[Tie], candidates: Candidates
) -> None:
    """Tied widths have equally many candidates of each kind, or ``GrowthError`` (``unequal-tie``)."""
    for tie in ties:
        for slices, kind in (
            (candidates.split, "split candidates"),
            (candidates.new, "candidates for new neurons"),
        ):
            counts = [slices[n].stop - slices[n].start if n in slices else 0 for n in tie]
            _require_equal(coupling, tie, counts, kind)


def _require_equal(coupling: Coupling, tie: Tie, counts: Sequence[int], what: str) -> None:
    odd = next((i for i, count in enumerate(counts) if count != counts[0]), None)
    if odd is not None:
        first, other = (coupling.widths[tie[i]].name for i in (0, odd))
        raise GrowthError(
            "unequal-tie",
            f"{first!r} and {other!r} cannot grow alike, they have {counts[0]} and {counts[odd]} {what}; tie equals",
        )
