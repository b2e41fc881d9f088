"""Firefly descent as a growth method: its settings, and its two steps in order.

Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020, Algorithm 1.
How we differ: see the package's docstring.
"""

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field, model_validator

from fxgrow.coupling import Coupling
from fxgrow.documents import Pattern, Settings, limits
from fxgrow.growth import Objective, Proposal, Scores, SelectFunction, estimate_statistics
from fxgrow.kernel_guard import require_bfloat16_gradients
from fxgrow.methods.firefly import importance
from fxgrow.methods.firefly.neighborhood import initialize
from fxgrow.methods.firefly.relax import CONSTRAINTS, OPTIMIZERS, PRECISIONS, relax
from fxgrow.methods.proposals import propose_everywhere
from fxgrow.rewrite import DepthProposal, OverGrown

PATHS = {"joint": importance.joint_scores, "single": importance.single_scores}


class Firefly(Settings):
    """Firefly descent.

    Args:
        split: let existing neurons split.
        new: candidates for new neurons per width (m' in the paper); None: ``LEAST_NEW``, and more
            where the budget can buy more.
        layers: candidates for neurons per candidate residual layer; 0 proposes no layers.
        at: patterns of nodes or modules after which layers are proposed; with none, after every
            activation and residual sum.
        norm: put a batch norm inside candidate layers.
        eps: radius of the neighborhood, relative to the weights of each layer.
        steps: optimizer steps of step one.
        lr: learning rate of step one; it falls linearly to 0.
        refine_steps: optimizer steps for the selected candidates alone, after the others that they
            were tuned beside are gone.
        points: points of the midpoint rule in step two.
        path: in step two, move all candidates together (``joint``) or each alone (``single``).
        optimizer: of step one.
        constraint: keep the candidates in the neighborhood by ``projection`` after every step, or
            by a ``penalty`` (``Neighborhood.violation``) and one projection at the end.
        precision: of the passes through the over-grown graph in both steps: the model's own
            (``fp32``), or bfloat16 autocast (``bf16``). Reported losses and checks always use the
            model's own.
        rounds: how often the two steps take turns. Each round starts from the directions and the
            signed eps of the last one, with all candidates still on.

    Example:
        >>> method = Firefly(new=4, steps=10)
        >>> fxgrow.grow(model, batches, loss_fn, example_inputs=inputs, method=method)
    """

    split: bool = True
    new: int | None = Field(default=None, ge=0, le=limits.CANDIDATES)
    layers: int = Field(default=0, ge=0, le=limits.CANDIDATES)
    at: tuple[Pattern, ...] = ()
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

    @model_validator(mode="after")
    def _layers_use_their_settings(self) -> "Firefly":
        if not self.layers and (self.at or self.norm):
            raise ValueError(
                "at and norm are about layers to insert, and layers=0 inserts none; give layers, "
                "or leave them out"
            )
        return self

    @property
    def predicts_gain(self) -> bool:
        """A score is eps times an integrated gradient: a decrease of the loss."""
        return True

    @property
    def grows_under_norms(self) -> bool:
        """Relaxation and scores are the same, whichever end of a neuron eps multiplies."""
        return True

    @property
    def search_steps(self) -> int:
        """How many growth batches the search steps over."""
        return self.rounds * self.steps + self.refine_steps

    def propose(self, coupling: Coupling) -> Proposal:
        """Propose that every growable neuron may split, and ``new`` neurons per growable width."""
        depth = DepthProposal(self.layers, self.at, norm=self.norm) if self.layers else None
        return replace(propose_everywhere(coupling, self.new, split=self.split), layers=depth)

    def search(
        self,
        grown: OverGrown,
        objective: Objective,
        generator: torch.Generator,
        choose: SelectFunction,
    ) -> Scores:
        """Run step one, then step two.

        The score is the decrease of the loss that is expected from switching the candidate on, to
        first order: eps |s|, or -eps s for splits in halves. eps is left at -eps sign(s), and at
        eps for splits in halves, which are symmetric in eps.
        """
        self.begin(grown, objective, generator)
        for number in range(self.rounds):
            scores = self._round(grown, objective, number * self.steps)
        return scores

    def begin(self, grown: OverGrown, objective: Objective, generator: torch.Generator) -> None:
        """Draw directions, and estimate the batch norm statistics of new neurons under them.

        Args:
            grown: the over-grown graph, changed in place.
            objective: its batches give the statistics.
            generator: draws the directions.

        Raises:
            ModelError: ``unsafe-convolution``: on this processor a gradient in bfloat16 would be
                garbage.
        """
        if self.precision == "bf16":
            require_bfloat16_gradients(grown.graph_module, *objective.first_inputs)
        initialize(grown, self.eps, generator)
        estimate_statistics(grown, objective)

    def _round(self, grown: OverGrown, objective: Objective, first_batch: int) -> Scores:
        """Run both steps once, and set every eps to the better sign."""
        self._relax(grown, objective, self.steps, first_batch)
        integrated_gradients = PATHS[self.path]
        # Directions that fit the batches they were found on would score well on them.
        unseen = self._in_precision(objective.scoring)
        split, new = integrated_gradients(grown, unseen, self.points)
        candidates = grown.candidates
        with torch.no_grad():
            new_scores = self.eps * new.abs()
            candidates.new_eps.copy_(-self.eps * new.sign())
            if not candidates.halves:
                candidates.split_eps.copy_(-self.eps * split.sign())
                return Scores(self.eps * split.abs(), new_scores)
            # With two halves the other sign is the same split, so a gain may be negative.
            split_scores = -candidates.split_eps * split
            candidates.split_eps.fill_(self.eps)
        return Scores(split_scores.detach(), new_scores)

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Run step one again, for the selected candidates alone."""
        self._relax(grown, objective, self.refine_steps, self.rounds * self.steps)

    def _relax(self, grown: OverGrown, objective: Objective, steps: int, first_batch: int) -> None:
        optimizer_rule = OPTIMIZERS[self.optimizer]
        constraint_rule = CONSTRAINTS[self.constraint]
        objective = self._in_precision(objective)
        rules = optimizer_rule, constraint_rule
        relax(grown, objective, self.eps, steps, self.lr, *rules, first_batch)

    def _in_precision(self, objective: Objective) -> Objective:
        return replace(objective, autocast=PRECISIONS[self.precision])
