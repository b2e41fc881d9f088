"""Widths by what the user calls them: names, and patterns as in ``fnmatch``."""

from fnmatch import fnmatchcase

from fxgrow.coupling import Coupling, Width
from fxgrow.errors import GrowthError


def matching_widths(coupling: Coupling, pattern: str) -> list[Width]:
    """The growable widths that a pattern fits. Raises ``GrowthError`` if there is none."""
    fits = [width for width in coupling.widths if fnmatchcase(width.name, pattern)]
    if not fits:
        known = ", ".join(width.name for width in coupling.widths[:8])
        raise GrowthError(
            "unknown-width", f"there is no width {pattern!r}; the model's widths are {known}, ..."
        )
    return [width for width in fits if width.growable] or [require_growable(fits[0], pattern)]


def require_growable(width: Width, name: str) -> Width:
    """The width itself. Raises ``GrowthError`` if it cannot grow."""
    if width.refusal:
        raise GrowthError(width.refusal.code, f"width {name!r} cannot grow: {width.refusal.reason}")
    return width
