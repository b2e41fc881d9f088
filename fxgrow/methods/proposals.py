"""What the proposals of most methods have in common."""

from fxgrow.coupling import Coupling


def growable_widths(coupling: Coupling) -> list[int]:
    """Return the numbers of the widths that may change."""
    return [number for number, width in enumerate(coupling.widths) if width.growable]
