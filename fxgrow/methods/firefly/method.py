"""Firefly descent as a growth method: its settings, and its two steps in order."""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from fxgrow.coupling import Coupling
from fxgrow.growth import Choose, Neighbourhood, Objective, Scores
from fxgrow.methods.firefly import importance
from fxgrow.methods.firefly.neighbourhood import start
from fxgrow.methods.firefly.relax import relax
from fxgrow.rewrite import OverGrown

PATHS = {"joint": importance.joint, "single": importance.single}


class Firefly(BaseModel):
    """Settings.

    ``new``: new-neuron candidates per width (m'); ``eps``: radius of the neighbourhood, relative to the weights of each
    layer; ``steps``, ``lr``: step one; ``points``, ``path``: step two; ``refine_steps``: more of step one for the
    selected alone (the others that they were tuned beside are gone).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    split: bool = True
    new: int = Field(default=8, ge=0)
    eps: float = Field(default=0.1, gt=0)
    steps: int = Field(default=20, ge=0)
    lr: float = Field(default=0.03, gt=0)
    refine_steps: int = Field(default=10, ge=0)
    points: int = Field(default=3, ge=1)
    path: Literal["joint", "single"] = "joint"

    def neighbourhood(self, coupling: Coupling) -> Neighbourhood:
        """Every growable neuron may split, every growable width may get ``new`` neurons."""
        growable = [number for number, width in enumerate(coupling.widths) if width.growable]
        return Neighbourhood(frozenset(growable if self.split else ()), dict.fromkeys(growable, self.new))

    def search(self, grown: OverGrown, objective: Objective, generator: torch.Generator, choose: Choose) -> Scores:
        """Step one, then step two; eps is left at -eps sign(s) for new neurons (splits are symmetric in eps).

        The score is what switching the candidate on is expected to lower the loss by, to first order: eps |s| for new
        neurons, -eps s for splits.
        """
        start(grown, self.eps, generator)
        relax(grown, objective, self.eps, self.steps, self.lr)
        split, new = PATHS[self.path](grown, objective, self.points)
        candidates = grown.candidates
        with torch.no_grad():
            gain = -candidates.split_eps * split
            candidates.split_eps.fill_(self.eps)
            candidates.new_eps.copy_(-self.eps * new.sign())
        return Scores(gain.detach(), self.eps * new.abs())

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Step one again, for the selected candidates alone."""
        relax(grown, objective, self.eps, self.refine_steps, self.lr)
