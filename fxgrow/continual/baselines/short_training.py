"""Short training on the growth batches, of some entries of a network: how rivals try out what to add.

In evaluation mode, as all growth looks at a loss, so running statistics stay as they are.
"""

import math
from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import SGD

from fxgrow.continual.fit import FreeMasks
from fxgrow.continual.ownership import Masks, new_entry_masks, task_owned_tensors
from fxgrow.coupling import Coupling
from fxgrow.errors import GrowthError
from fxgrow.growth import Objective
from fxgrow.modes import evaluation_mode, frozen_parameters
from fxgrow.spec import StrictModel

ProximalStep = Callable[[float], None]
"""A proximal step of that length, after each step of the descent."""


def _nothing(_: float) -> None:
    """Shrink nothing."""


class ShortTraining(StrictModel):
    """``steps`` of SGD with momentum, each on one growth batch in turn; ``decay``: of the weights that learn."""

    steps: int = Field(default=16, ge=1)
    rate: float = Field(default=0.02, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    decay: float = Field(default=1e-4, ge=0)

    def descend(
        self,
        network: nn.Module,
        objective: Objective,
        free: FreeMasks,
        shrink: ProximalStep = _nothing,
    ) -> None:
        """Train the entries ``free``; all others keep their values. Raises ``GrowthError`` (``nan-loss``).

        ``shrink`` is told how far a constant gradient of 1 moves a weight per step in the long run.
        """
        learning = {
            name: parameter for name, parameter in network.named_parameters() if name in free
        }
        optimizer = SGD(learning.values(), lr=self.rate, momentum=self.momentum)
        with frozen_parameters(network, except_for=free), evaluation_mode(network):
            for step in range(self.steps):
                optimizer.zero_grad()
                _finite(
                    objective.on(network, objective.batches[step % len(objective.batches)])
                ).backward()
                for name, parameter in learning.items():
                    _mask(parameter, free[name], self.decay)
                optimizer.step()
                with torch.no_grad():
                    shrink(self.rate / (1 - self.momentum))
        optimizer.zero_grad()


def _finite(loss: Tensor) -> Tensor:
    if math.isfinite(float(loss.detach())):
        return loss
    raise GrowthError(
        "nan-loss",
        f"the loss on the growth batches is {float(loss.detach())}; lower the rate of the expansion first",
    )


def _mask(parameter: nn.Parameter, free: Tensor, decay: float) -> None:
    """No gradient, and so no momentum either, where nothing may learn."""
    if parameter.grad is not None:
        parameter.grad = torch.where(free, parameter.grad + decay * parameter.detach(), 0)


def own_entry_masks(
    network: nn.Module, coupling: Coupling, head: str, new: Masks
) -> dict[str, Tensor]:
    """What belongs to the task alone: all of its private tensors, and every entry on a ``fresh`` neuron."""
    held = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    mine = {
        name: torch.ones_like(held[name], dtype=torch.bool)
        for name in task_owned_tensors(network, head)
    }
    return new_entry_masks(network, coupling, new) | mine
