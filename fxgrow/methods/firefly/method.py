"""Firefly descent as a growth method: its settings, and its two steps in order."""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from fxgrow.coupling import Coupling
from fxgrow.documents import limits
from fxgrow.growth import Objective, Proposal, Scores, SelectFunction, estimate_statistics
from fxgrow.methods.firefly import importance
from fxgrow.methods.firefly.neighborhood import initialize
from fxgrow.methods.firefly.relax import CONSTRAINTS, OPTIMIZERS, PRECISIONS, relax
from fxgrow.rewrite import DepthProposal, OverGrown

PATHS = {"joint": importance.joint_scores, "single": importance.single_scores}


class Firefly(BaseModel):
    """Settings.

    ``new``: new-neuron candidates per width (m'); ``layers``: those per candidate residual layer (0: no layers), which
    are put ``at`` the nodes or modules that fit these patterns (none: after every activation and residual sum), with a
    batch norm inside if ``norm``; ``eps``: radius of the neighbourhood, relative to the weights of each
    layer; ``steps``, ``lr``, ``optimizer``, ``constraint``: step one, kept in the box and the ball by projection after
    every step or by a penalty (``neighbourhood.violation``) with one projection at the end; ``points``, ``path``: step
    two; ``rounds``: how often the two take turns, each round from the directions and the signed eps of the last one
    with all candidates still on; ``refine_steps``: more of step one for the selected alone (the others that they were
    tuned beside are gone); ``precision``: of the over-grown passes in both steps, the model's own (``fp32``) or
    bfloat16 autocast (``bf16``); losses and promises are always in the model's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    split: bool = True
    new: int = Field(default=8, ge=0, le=limits.CANDIDATES)
    layers: int = Field(default=0, ge=0, le=limits.CANDIDATES)
    at: tuple[str, ...] = ()
    norm: bool = False
    eps: float = Field(default=0.1, gt=0, le=limits.RATE)
    steps: int = Field(default=20, ge=0, le=limits.STEPS)
    lr: float = Field(default=0.03, gt=0, le=limits.RATE)
    refine_steps: int = Field(default=10, ge=0, le=limits.STEPS)
    points: int = Field(default=3, ge=1, le=limits.STEPS)
    path: Literal["joint", "single"] = "joint"
    optimizer: Literal["adam", "rmsprop", "sgd"] = "adam"
    constraint: Literal["projection", "penalty"] = "projection"
    precision: Literal["fp32", "bf16"] = "fp32"
    rounds: int = Field(default=1, ge=1, le=limits.STEPS)

    def propose(self, coupling: Coupling) -> Proposal:
        """Every growable neuron may split, every growable width may get ``new`` neurons."""
        growable = [number for number, width in enumerate(coupling.widths) if width.growable]
        depth = DepthProposal(self.layers, self.at, norm=self.norm) if self.layers else None
        return Proposal(
            frozenset(growable if self.split else ()), dict.fromkeys(growable, self.new), depth
        )

    def search(
        self,
        grown: OverGrown,
        objective: Objective,
        generator: torch.Generator,
        choose: SelectFunction,
    ) -> Scores:
        """Step one, then step two; eps is left at -eps sign(s) (at eps for splits in halves, symmetric in eps).

        The score is what switching the candidate on is expected to lower the loss by, to first order: eps |s|, or
        -eps s for splits in halves.
        """
        self.begin(grown, objective, generator)
        rounds = [self._round(grown, objective) for _ in range(self.rounds)]
        return rounds[-1]

    def begin(self, grown: OverGrown, objective: Objective, generator: torch.Generator) -> None:
        """Random directions, and batch norms of new neurons at what these make them see."""
        initialize(grown, self.eps, generator)
        estimate_statistics(grown, objective)

    def _round(self, grown: OverGrown, objective: Objective) -> Scores:
        self._relax(grown, objective, self.steps)
        split, new = PATHS[self.path](grown, self._cast(objective), self.points)
        candidates = grown.candidates
        with torch.no_grad():
            candidates.new_eps.copy_(-self.eps * new.sign())
            if not candidates.halves:
                candidates.split_eps.copy_(-self.eps * split.sign())
                return Scores(self.eps * split.abs(), self.eps * new.abs())
            gain = -candidates.split_eps * split
            candidates.split_eps.fill_(self.eps)
        return Scores(gain.detach(), self.eps * new.abs())

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Step one again, for the selected candidates alone."""
        self._relax(grown, objective, self.refine_steps)

    def _relax(self, grown: OverGrown, objective: Objective, steps: int) -> None:
        descent, constraint = OPTIMIZERS[self.optimizer], CONSTRAINTS[self.constraint]
        relax(grown, self._cast(objective), self.eps, steps, self.lr, descent, constraint)

    def _cast(self, objective: Objective) -> Objective:
        return PRECISIONS[self.precision](objective.batches, objective.loss_fn, objective.form)
