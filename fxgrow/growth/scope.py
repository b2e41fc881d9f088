"""Which widths of a model may grow, and which grow alike."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from fxgrow.coupling import Coupling, Width
from fxgrow.documents import Pattern, Settings
from fxgrow.errors import GrowthError
from fxgrow.growth.budget import Tie
from fxgrow.rewrite import Candidates


class Scope(Settings):
    """Which widths may grow, by patterns as in ``fnmatch``.

    Args:
        only: patterns of module paths; a width that no such module writes stays as it is. Empty:
            every width may grow. A width under norms (the stream of a transformer) grows if it is
            called by its own name here; no pattern means it.
        ignore: patterns of module paths; a width that touches such a module stays as it is.
        tie: groups of widths, by names or patterns. The widths of one group grow alike: candidates
            at the same place of all of them are one candidate.
        expressible: of a model with a config (Hugging Face), only what the config can describe
            grows, alike in all layers, so that ``from_pretrained`` loads what ``save_pretrained``
            wrote.
        blocks: patterns of lists of residual blocks (``nn.ModuleList``, ``nn.Sequential``) that may
            get longer by copies of their blocks, which compete with the neurons.

    Example:
        >>> Scope(only=("*", "model.embed_tokens"))
        >>> Scope(only=("layer1.*",), tie=(("layer1.0.conv1", "layer1.1.conv1"),))
    """

    only: tuple[Pattern, ...] = ()
    ignore: tuple[Pattern, ...] = ()
    tie: tuple[tuple[Pattern, ...], ...] = ()
    expressible: bool = False
    blocks: tuple[str, ...] = ()


ALL_WIDTHS = Scope()
"""Every width may grow, each by itself."""


_BLOCKS = "block:"
"""What a pattern of lists of blocks begins with, among the layers that may be added."""


def block_patterns(layers: str | Sequence[str]) -> tuple[str, ...]:
    """The patterns of lists of blocks that ``fxgrow.grow(layers=...)`` names.

    Args:
        layers: ``"block:model.layers"``, or several of that form.

    Raises:
        GrowthError: ``bad-blocks`` for another form.
    """
    words = (layers,) if isinstance(layers, str) else tuple(layers)
    for word in words:
        if not word.startswith(_BLOCKS):
            raise GrowthError(
                "bad-blocks",
                f"layers={word[:80]!r} names no list of blocks; say block: and the path of a list "
                "or a pattern, as in 'block:model.layers', or insert residual layers by "
                "method=Firefly(layers=8)",
            )
    return tuple(word.removeprefix(_BLOCKS) for word in words)


def matching_widths(coupling: Coupling, pattern: str) -> list[Width]:
    """Find the growable widths whose names match a pattern.

    Args:
        coupling: the widths of the model.
        pattern: a name, or a pattern as in ``fnmatch``.

    Returns:
        At least one width.

    Raises:
        GrowthError: ``unknown-width`` if no name matches; the width's own refusal code if every
            match refuses to grow.
    """
    matches: list[Width] = []
    for width in coupling.widths:
        if fnmatchcase(width.name, pattern):
            matches.append(width)
    if not matches:
        known = ", ".join(width.name for width in coupling.widths[:8])
        raise GrowthError(
            "unknown-width", f"there is no width {pattern!r}; the model's widths are {known}, ..."
        )
    growable = [width for width in matches if width.growable]
    return growable or [require_growable(matches[0], pattern)]


def require_growable(width: Width, name: str) -> Width:
    """Check that a width can grow.

    Args:
        width: the width.
        name: what the caller called it, for the message.

    Returns:
        The width.

    Raises:
        GrowthError: with the width's refusal code.
    """
    if width.refusal:
        raise GrowthError(width.refusal.code, f"width {name!r} cannot grow: {width.refusal.reason}")
    return width


def resolve_ties(coupling: Coupling, groups: Sequence[Sequence[str]]) -> tuple[Tie, ...]:
    """Turn groups of names and patterns into ties of width numbers.

    Args:
        coupling: the widths of the model.
        groups: per tie its names or patterns.

    Returns:
        The ties, each with ascending numbers.

    Raises:
        GrowthError: ``unknown-width`` for a name that matches nothing, ``unequal-tie`` for widths
            of different sizes or a width in two ties, ``single-tie`` for a tie of one width.
    """
    numbers = coupling.number_of
    ties: list[Tie] = []
    for names in groups:
        members: set[int] = set()
        for name in names:
            for width in matching_widths(coupling, name):
                members.add(numbers[width.name])
        if len(members) < 2:
            raise GrowthError(
                "single-tie",
                f"the tie {list(names)} holds {len(members)} widths that can grow, so nothing "
                "would grow alike; name two or more, or leave it out",
            )
        ties.append(tuple(sorted(members)))
    tie_of: dict[int, Tie] = {}
    for tie in ties:
        sizes = [coupling.widths[number].size for number in tie]
        _require_equal(coupling, tie, sizes, "neurons")
        for number in tie:
            if tie_of.setdefault(number, tie) != tie:
                raise GrowthError(
                    "unequal-tie",
                    f"width {coupling.widths[number].name!r} is in two ties; make them one or "
                    "leave it out",
                )
    return tuple(dict.fromkeys(ties))


def require_equal_candidates(
    coupling: Coupling, ties: Sequence[Tie], candidates: Candidates
) -> None:
    """Check that tied widths have equally many candidates of each kind.

    Args:
        coupling: the widths of the model.
        ties: the ties to check.
        candidates: the candidates of the over-grown graph.

    Raises:
        GrowthError: ``unequal-tie``.
    """
    kinds = (
        (candidates.split, "split candidates"),
        (candidates.new, "candidates for new neurons"),
    )
    for tie in ties:
        for slices, kind in kinds:
            counts = []
            for number in tie:
                places = slices.get(number, slice(0, 0))
                counts.append(places.stop - places.start)
            _require_equal(coupling, tie, counts, kind)


def _require_equal(coupling: Coupling, tie: Tie, counts: Sequence[int], what: str) -> None:
    for number, count in zip(tie, counts, strict=True):
        if count != counts[0]:
            first, other = coupling.widths[tie[0]].name, coupling.widths[number].name
            raise GrowthError(
                "unequal-tie",
                f"{first!r} and {other!r} cannot grow alike, they have {counts[0]} and {count} "
                f"{what}; tie equals",
            )
