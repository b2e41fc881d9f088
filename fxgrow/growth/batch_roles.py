"""Which growth batches the search steps on, which score, and which are only reported on.

A search that steps over the batches that it scores on, and reports the loss of, fits them: ten
times the steps lowered their loss and raised that of other batches. So each batch has one role, and
where there are enough, no two search steps see the same one.

- searched: each step of the search takes the next one.
- scored: the search has not seen them. Candidates are scored on them, eps is halved on them.
- held out: nothing is decided by them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from fxgrow.growth.method import search_steps
from fxgrow.growth.objective import Objective

SCORING_BATCHES = 8
"""Batches that candidates are scored on, if there are enough; as many are held out."""

MAX_SEARCHED = 64
"""Batches that the search steps on; they are kept in memory, so more steps take them in turn."""


@dataclass(frozen=True)
class BatchRoles:
    """How many growth batches there were for each purpose.

    Args:
        searched: for the steps of the search.
        scored: for the scores of candidates, and for ``loss_before`` and ``loss_after``.
        held_out: for the losses that nothing is decided by.
        steps: how many steps the search takes.
        total: how many batches there were.

    Example:
        >>> print(growth.report.batches)
        8 growth batches: 4 to search on (by 30 steps in turn), 2 to score on, 2 held out
    """

    searched: int
    scored: int
    held_out: int
    steps: int
    total: int

    def __str__(self) -> str:
        if self.total == 1:
            return (
                "1 growth batch serves the search, the scores and the held-out loss, which tells "
                "nothing of other examples; give 3 batches or more"
            )
        turns = f" (by {self.steps} steps in turn)" if self.steps > self.searched else ""
        whole = f"{self.total} growth batches: {self.searched} to search on{turns}"
        if self.total == 2:
            return (
                f"{whole}, 1 to score on, which serves for the held-out loss, too; give 3 batches "
                "or more"
            )
        return f"{whole}, {self.scored} to score on, {self.held_out} held out"


def take_batches(batches: Iterable[Any], method: object) -> list[Any]:
    """Take as many batches as a growth step has a use for; there may be no end to them.

    Args:
        batches: a list, a loader, a generator.
        method: may say how many steps its search takes (``search_steps``).

    Returns:
        At most ``MAX_SEARCHED`` batches and those that are scored on and held out.
    """
    return list(islice(batches, _searched(search_steps(method)) + 2 * SCORING_BATCHES))


def assign_roles(objective: Objective, method: object) -> tuple[Objective, BatchRoles]:
    """Give each growth batch one role.

    Args:
        objective: with all batches.
        method: may say how many steps its search takes (``search_steps``).

    Returns:
        The objective whose ``batches`` are those to search on, and how many have which role.
    """
    batches, steps = objective.batches, search_steps(method)
    total = len(batches)
    wanted = _searched(steps) + 2 * SCORING_BATCHES
    # With too few for everything, a quarter scores and a quarter is held out.
    share = SCORING_BATCHES if total >= wanted else min(SCORING_BATCHES, max(1, total // 4))
    searched = max(1, total - 2 * share)
    scoring = batches[searched : searched + share] or batches
    held_out = batches[searched + share :] or scoring
    divided = replace(
        objective,
        batches=batches[:searched],
        scoring_batches=scoring,
        held_out_batches=held_out,
    )
    return divided, BatchRoles(searched, len(scoring), len(held_out), steps, total)


def _searched(steps: int) -> int:
    # Statistics of batch norms are of these batches, so there are some without any step, too.
    return min(max(steps, SCORING_BATCHES), MAX_SEARCHED)
