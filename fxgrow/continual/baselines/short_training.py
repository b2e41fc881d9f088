"""Short training of some entries of a network on the growth batches.

This is how baselines try out what to add. It happens in evaluation mode, as all growth looks at a
loss, so running statistics stay as they are.
"""

import math
from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import SGD

from fxgrow.continual.fit import FreeMasks
from fxgrow.continual.ownership import Masks, all_entries, new_entry_masks, task_owned_tensors
from fxgrow.coupling import Coupling
from fxgrow.errors import GrowthError
from fxgrow.growth import Objective
from fxgrow.modes import evaluation_mode, frozen_parameters
from fxgrow.spec import StrictModel
from fxgrow.surgery import named_tensors

ProximalStep = Callable[[float], None]
"""A proximal step of that length, after each step of the descent."""


def _no_step(_: float) -> None:
    """Shrink nothing."""


class ShortTraining(StrictModel):
    """Settings of SGD with momentum, each step on one growth batch in turn.

    Args:
        steps: how many steps.
        rate: the learning rate.
        momentum: the momentum.
        decay: the weight decay, of the entries that learn.
    """

    steps: int = Field(default=16, ge=1)
    rate: float = Field(default=0.02, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    decay: float = Field(default=1e-4, ge=0)

    def descend(
        self,
        network: nn.Module,
        objective: Objective,
        free: FreeMasks,
        shrink: ProximalStep = _no_step,
    ) -> None:
        """Train some entries of a network in place; all others keep their values.

        Args:
            network: the network.
            objective: the loss and the growth batches.
            free: by name of a parameter, which of its entries learn.
            shrink: called after every step with how far a constant gradient of 1 moves a weight per
                step in the long run.

        Raises:
            GrowthError: ``nan-loss`` if the loss is no finite number.
        """
        learning: dict[str, nn.Parameter] = {}
        for name, parameter in network.named_parameters():
            if name in free:
                learning[name] = parameter
        optimizer = SGD(learning.values(), lr=self.rate, momentum=self.momentum)
        batches = objective.batches
        # With momentum m a step becomes 1 + m + m^2 + ... = 1 / (1 - m) times as long.
        long_run_step = self.rate / (1 - self.momentum)
        with frozen_parameters(network, except_for=free), evaluation_mode(network):
            for step in range(self.steps):
                optimizer.zero_grad()
                loss = objective.on(network, batches[step % len(batches)])
                _require_finite(loss)
                loss.backward()
                for name, parameter in learning.items():
                    _mask_gradient(parameter, free[name], self.decay)
                # A locked entry has gradient 0 and momentum 0, so the step leaves its bits alone.
                optimizer.step()
                with torch.no_grad():
                    shrink(long_run_step)
        optimizer.zero_grad()


def _require_finite(loss: Tensor) -> None:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise GrowthError(
            "nan-loss",
            f"the loss on the growth batches is {value}; lower the rate of the expansion first",
        )


def _mask_gradient(parameter: nn.Parameter, free: Tensor, decay: float) -> None:
    """Leave no gradient, and so no momentum either, where nothing may learn."""
    if parameter.grad is not None:
        # Weight decay is added here and not by SGD, which would decay locked entries too.
        parameter.grad = torch.where(free, parameter.grad + decay * parameter.detach(), 0)


def own_entry_masks(
    network: nn.Module, coupling: Coupling, head: str, new: Masks
) -> dict[str, Tensor]:
    """Mark what belongs to the new task alone.

    Args:
        network: the network.
        coupling: its coupling.
        head: the path of its head.
        new: by name of a width, which of its neurons are new.

    Returns:
        By name of a parameter or buffer a mask in its shape: all of a tensor that every task has
        for itself, and of others every entry that lies on a new neuron.
    """
    owned = all_entries(named_tensors(network), task_owned_tensors(network, head))
    return new_entry_masks(network, coupling, new) | owned
