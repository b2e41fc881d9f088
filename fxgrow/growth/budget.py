"""Budgets, and the selection of the best candidates within them (Wu et al. 2020, Eq. 5 under the l0 constraint)."""

from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor

from fxgrow.coupling import Coupling
from fxgrow.errors import BudgetError
from fxgrow.growth.method import Scores
from fxgrow.rewrite import Candidates
from fxgrow.surgery.index_map import Change


class Budget(BaseModel):
    """``neurons``: how many to add, as a count (int) or as a fraction (float) of the neurons of all growable widths."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    neurons: int | float

    @model_validator(mode="after")
    def _positive(self) -> "Budget":
        if not 0 < self.neurons < float("inf"):
            raise BudgetError(
                "empty-budget", f"a budget of {self.neurons} neurons buys nothing; give a count or a fraction above 0"
            )
        return self

    def count(self, coupling: Coupling) -> int:
        """The number of neurons that the budget buys for this model."""
        if isinstance(self.neurons, int):
            return self.neurons
        present = sum(width.size for width in coupling.widths if width.growable)
        count = round(self.neurons * present)
        if count == 0:
            raise BudgetError("empty-budget", f"{self.neurons} of {present} neurons is less than one; ask for more")
        return count


@dataclass(frozen=True)
class Selection:
    """Which candidates were chosen (boolean masks over split_eps and new_eps), and everybody's scores."""

    split: Tensor
    new: Tensor
    scores: Scores

    @torch.no_grad()
    def switch_off_others(self, candidates: Candidates) -> None:
        """Set eps of every candidate that was not chosen to 0."""
        candidates.split_eps.mul_(self.split.to(candidates.split_eps))
        candidates.new_eps.mul_(self.new.to(candidates.new_eps))

    def change(self, candidates: Candidates, width: int, size: int) -> Change:
        """What happens to one width."""
        split = (
            self.split[candidates.split[width]] if width in candidates.split else torch.zeros(size, dtype=torch.bool)
        )
        fresh = int(self.new[candidates.new[width]].sum()) if width in candidates.new else 0
        return Change(tuple((1 + split.long()).tolist()), fresh)

    def chosen_scores(self, candidates: Candidates, width: int) -> tuple[float, ...]:
        """The scores of a width's chosen candidates, best first."""
        found = [
            scores[places][mask[places]]
            for scores, mask, slices in (
                (self.scores.split, self.split, candidates.split),
                (self.scores.new, self.new, candidates.new),
            )
            if (places := slices.get(width)) is not None
        ]
        return tuple(sorted(torch.cat(found).tolist(), reverse=True)) if found else ()


def select(scores: Scores, count: int) -> Selection:
    """The ``count`` best candidates of all kinds together; of equals the first."""
    together = torch.cat([scores.split, scores.new])
    if not torch.isfinite(together).all():
        raise BudgetError("bad-scores", "some candidate's score is not a number; the loss is probably not finite")
    chosen = torch.zeros(len(together), dtype=torch.bool)
    chosen[together.argsort(descending=True, stable=True)[:count]] = True
    return Selection(chosen[: len(scores.split)], chosen[len(scores.split) :], scores)
