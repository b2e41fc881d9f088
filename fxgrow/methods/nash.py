"""Several random children, each trained briefly; the structure of the best one is taken.

Reference: Elsken, Metzen, Hutter, "Simple and Efficient Architecture Search for Convolutional
Neural Networks", 2017 (NASH), Algorithm 1: apply random function-preserving morphisms to the
current network n_neigh = 8 times, train each child for a few epochs with SGD under a cosine rate
(Loshchilov, Hutter, "SGDR", ICLR 2017), take the one that is best on validation images, and go on
from it. One growth here is one step of that hill climbing.

How we differ:

- the *structure* of the best child is taken, not its weights: a growth keeps the function, and the
  training that the caller pays for comes after it. The paper goes on from the child's weights.
- a child is as many morphisms as the budget buys (the paper: a fixed number, and sizes that
  differ), and the unchanged parent is not among the children, since a growth grows.
- morphisms are those of ``methods.network_morphism``; skip connections of the paper are not there.
- children are trained on growth batches and compared on others, those that score; all parameters
  learn, those that the user froze too, because the children are thrown away.

It costs children x steps training steps of networks of the final size.
"""

import math
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from fxgrow.copying import copy_module
from fxgrow.documents import limits
from fxgrow.errors import GrowthError
from fxgrow.growth import (
    Objective,
    Scores,
    SelectFunction,
    Selection,
    emit,
    estimate_statistics,
    parameter_updates,
    width_changes,
)
from fxgrow.kernel_guard import guard_unsafe_kernel
from fxgrow.methods.firefly.neighborhood import initialize
from fxgrow.methods.morphisms import draw_order
from fxgrow.methods.network_morphism import NetworkMorphism
from fxgrow.methods.zero_outgoing import ON
from fxgrow.modes import evaluation_mode
from fxgrow.randomness import seeded
from fxgrow.rewrite import OverGrown

_SEEDS = 2**31


class NASH(NetworkMorphism):
    """The best of some random sets of morphisms, after a brief training of each.

    Args:
        wider: by which share of its neurons a morphism widens a width; 1 doubles it.
        layers: neurons per layer; None: as many as the value has that the layer reads. 0 proposes
            no layers.
        at: patterns of nodes or modules after which layers may follow; with none, every activation
            and residual sum.
        norm: put a batch norm inside the layers.
        children: how many are tried.
        steps: training steps of each, one growth batch a step.
        lr: learning rate of the first step; it falls to 0 along half a cosine.
        momentum: of SGD.

    Raises:
        GrowthError: ``nan-loss`` if training diverges for every child.

    Example:
        >>> method = NASH(children=4, steps=20)
        >>> fxgrow.grow(model, batches, loss_fn, method=method, budget=fxgrow.Budget(neurons=0.5))
    """

    children: int = Field(default=8, ge=1, le=limits.STEPS)
    steps: int = Field(default=50, ge=1, le=limits.STEPS)
    lr: float = Field(default=0.05, gt=0, le=limits.RATE)
    momentum: float = Field(default=0.9, ge=0, lt=1)

    @property
    def needs_one_process(self) -> bool:
        """Its search is not computed over several processes."""
        return True

    @property
    def search_steps(self) -> int:
        """How many growth batches the search steps over; all children see the same ones."""
        return self.steps

    def search(
        self,
        grown: OverGrown,
        objective: Objective,
        generator: torch.Generator,
        choose: SelectFunction,
    ) -> Scores:
        """Draw ``children`` orders of the morphisms; return that of the best child."""
        objective.ranks.require_alone("NASH")
        initialize(grown, ON, generator)
        estimate_statistics(grown, objective)
        drawn: list[Scores] = []
        losses: list[float] = []
        for number in range(self.children):
            objective.on_step(number + 1, self.children)
            scores = draw_order(grown, generator)
            # Drawn whether or not something is random in the child, so that draws stay in step.
            seed = int(torch.randint(_SEEDS, (), generator=generator))
            child = _emitted(grown, choose(scores))
            with seeded(seed):  # dropout draws from torch's own generators
                self._train(child, objective)
            losses.append(_loss(child, objective.scoring))
            drawn.append(scores)
        _require_number(losses)
        return drawn[losses.index(min(losses))]

    def _train(self, child: nn.Module, objective: Objective) -> None:
        """Train a child; the batches take turns."""
        child.train()
        parameters = [parameter for parameter in child.parameters() if parameter.requires_grad]
        optimizer = SGD(parameters, lr=self.lr, momentum=self.momentum)
        schedule = CosineAnnealingLR(optimizer, self.steps)
        for step in range(self.steps):
            batch = objective.batches[step % len(objective.batches)]
            with guard_unsafe_kernel(child):
                loss = objective.on(child, batch)
            # Diverged: what is left of the training would only cost time.
            if not math.isfinite(float(loss.detach())):
                return
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()


def _emitted(grown: OverGrown, selection: Selection) -> nn.Module:
    """A copy of the model with the selected candidates in it, all of whose weights learn."""
    child = copy_module(grown.captured.model)
    changes = width_changes(grown.coupling, grown, selection)
    updates = parameter_updates(grown.coupling, grown, selection)
    # As the growth itself would emit it, so the child is exactly what is judged.
    emit(child, grown.coupling, changes, updates)
    # A growth step freezes the model while it searches; the child is a model of its own.
    for parameter in child.parameters():
        if parameter.is_floating_point() or parameter.is_complex():
            parameter.requires_grad_()
    return child


def _loss(child: nn.Module, objective: Objective) -> float:
    """The mean loss in evaluation mode; infinite if it is no number."""
    with evaluation_mode(child):
        loss = objective.mean_or_nan(child)
    return loss if math.isfinite(loss) else math.inf


def _require_number(losses: Sequence[float]) -> None:
    """Check that some child can be compared."""
    if not math.isfinite(min(losses)):
        raise GrowthError(
            "nan-loss",
            f"training diverged for each of the {len(losses)} children, so none is the best; lower "
            "their learning rate (lr=)",
        )
