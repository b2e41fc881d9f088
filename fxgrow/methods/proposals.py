"""What the proposals of most methods have in common."""

from fxgrow.coupling import Coupling
from fxgrow.growth import Proposal

LEAST_NEW = 8
"""Candidates for new neurons per width, where the method's settings leave the number open."""


def growable_widths(coupling: Coupling) -> list[int]:
    """Return the numbers of the widths that may change."""
    return [number for number, width in enumerate(coupling.widths) if width.growable]


def propose_splits(coupling: Coupling) -> Proposal:
    """Propose that every neuron may split that may change, and no new neurons."""
    return Proposal(frozenset(growable_widths(coupling)), {})


def propose_in_proportion(coupling: Coupling) -> Proposal:
    """Propose as many new neurons as the budget buys, the same share of every width."""
    counts = dict.fromkeys(growable_widths(coupling), 1)
    return Proposal(frozenset(), counts, follows_budget=True, in_proportion=True)


def propose_everywhere(coupling: Coupling, new: int | None, *, split: bool) -> Proposal:
    """Propose candidates in every width that may change.

    Args:
        coupling: the widths of the model.
        new: candidates for new neurons per width; None: ``LEAST_NEW``, and more where the budget
            can buy more.
        split: let existing neurons split.
    """
    growable = growable_widths(coupling)
    counts = dict.fromkeys(growable, LEAST_NEW if new is None else new)
    may_split = frozenset(growable) if split else frozenset()
    return Proposal(may_split, counts, follows_budget=new is None)
