"""Elastic weight consolidation: weights that earlier tasks depend on are held where they were.

Reference: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 114,
2017. The loss of a task is (Eq. 3, one term for each earlier task k)

    L(theta) + sum_k lambda / 2 * sum_i F_k,i (theta_i - theta*_k,i)^2

with theta*_k the weights at the end of task k and F_k the diagonal of the Fisher information there:
the mean over its images of the squared gradient of log p(y | x), y drawn from the network's own
class probabilities. How we differ: after every step of SGD at the rate r the penalty takes an
implicit one, theta <- argmin of it + |theta' - theta|^2 (1 - momentum) / (2 r), which has the same
fixed point and which no lambda makes diverge, as an explicit one does if lambda r F is large. Tasks
have heads and normalizations (affine parameters and statistics) of their own, which nothing holds.
F is estimated on the first images of the task. Kept of the past besides the network: sum_k F_k and
sum_k F_k theta*_k.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fxgrow.continual.baselines.base import DEFAULT_TRAINING, TrunkStrategy
from fxgrow.continual.baselines.common import train_network
from fxgrow.continual.settings import TrainSettings
from fxgrow.continual.strategy import TaskStats
from fxgrow.continual.task import Task
from fxgrow.data import DataSet
from fxgrow.modes import evaluation_mode
from fxgrow.spec import StrictModel
from fxgrow.training import logits

NamedTensorMap = dict[str, Tensor]


class EwcSettings(StrictModel):
    """How strongly weights are held.

    F is small where a task is classified with certainty, so choose ``strength`` for your data.

    Args:
        strength: lambda, by default that of the authors' Atari games.
        images: how many images F is estimated on.
    """

    strength: float = Field(default=400.0, ge=0)
    images: int = Field(default=200, ge=1)


_SETTINGS = EwcSettings()


@dataclass(frozen=True, eq=False)
class EwcPenalty:
    """The quadratic penalty of all tasks so far, in the two sums that its gradient needs.

    Args:
        stiffness: sum_k F_k, by name of the parameter.
        pull: sum_k F_k theta*_k, by name of the parameter.
    """

    stiffness: NamedTensorMap = field(default_factory=dict)
    pull: NamedTensorMap = field(default_factory=dict)

    def with_task(self, fisher: NamedTensorMap, weights: Mapping[str, Tensor]) -> "EwcPenalty":
        """Add the term of one more task.

        Args:
            fisher: F of the task, by name of the parameter.
            weights: the weights at the end of the task, by name.

        Returns:
            The penalty of all tasks including this one.
        """
        stiffness: NamedTensorMap = {}
        pull: NamedTensorMap = {}
        for name, information in fisher.items():
            stiffness[name] = information + self.stiffness.get(name, 0)
            pull[name] = information * weights[name].detach() + self.pull.get(name, 0)
        return EwcPenalty(stiffness, pull)

    @torch.no_grad()
    def hold(self, parameters: Mapping[str, nn.Parameter], rate: float) -> None:
        """Take one implicit step of the penalty, in place.

        Args:
            parameters: the parameters by name.
            rate: the step size times lambda.
        """
        # Setting the gradient at the new point to zero gives
        # theta_new = (theta + rate * sum F theta*) / (1 + rate * sum F).
        for name, stiffness in self.stiffness.items():
            parameters[name].add_(self.pull[name], alpha=rate).div_(1 + rate * stiffness)


class Ewc(TrunkStrategy):
    """A ``Strategy`` that trains one copy of the model and holds weights that tasks depend on.

    Args:
        model: the network that the first task starts from; it is copied.
        example_inputs: inputs of the model, as ``fxgrow.capture`` takes them.
        head: path of the layer that gives the class scores; None: the last layer.
        train: how the weights are trained on every task.
        settings: how strongly weights are held.
    """

    own_norms = True

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        *,
        head: str | None = None,
        train: TrainSettings = DEFAULT_TRAINING,
        settings: EwcSettings = _SETTINGS,
    ) -> None:
        super().__init__(model, example_inputs, head=head, train=train)
        self._settings = settings
        self._penalty = EwcPenalty()

    def _learn(self, task: Task, seed: int) -> TaskStats:
        with self._trunk.learning(task, seed) as network:
            self._penalty = self._train_held(network, task, seed)
        return TaskStats(task.name)

    def _train_held(self, network: nn.Module, task: Task, seed: int) -> EwcPenalty:
        """Train on a task under the penalty of the earlier ones, and add its own term."""
        shared = self._trunk.shared()
        # Momentum makes a constant gradient act 1 / (1 - momentum) times as far.
        factor = self._settings.strength / (1 - self._train.momentum)

        def hold(rate: float) -> None:
            self._penalty.hold(shared, factor * rate)

        train_network(network, task.train, self._train, seed=seed, after_step=hold)
        images = task.train.first(self._settings.images)
        generator = torch.Generator().manual_seed(seed)
        fisher = fisher_information(network, shared, images, generator)
        return self._penalty.with_task(fisher, shared)


def fisher_information(
    network: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    data: DataSet,
    generator: torch.Generator,
) -> NamedTensorMap:
    """Estimate the diagonal of the Fisher information of some parameters, in evaluation mode.

    Args:
        network: a classifier.
        parameters: those parameters of it, by name; frozen ones are left out.
        data: the images that it is estimated on.
        generator: draws a class for every image from the network's own probabilities.

    Returns:
        Per name the mean over the images of the squared gradient of log p(y | x).
    """
    trained = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    weights = list(trained.values())
    squares = {name: torch.zeros_like(parameter) for name, parameter in trained.items()}
    with evaluation_mode(network):
        # One image at a time: the square of a batch's gradient is not the sum of the squares.
        for image in data.images.split(1):
            scores = logits(network(image))  # [1, classes]
            # Drawn on the processor, so that the class does not depend on the device.
            probabilities = scores.detach().softmax(1).cpu()
            drawn = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
            loss = F.cross_entropy(scores, drawn.to(scores.device))
            gradients = torch.autograd.grad(loss, weights, allow_unused=True)
            for total, gradient in zip(squares.values(), gradients, strict=True):
                if gradient is not None:
                    total.add_(gradient.square(), alpha=1 / len(data))
    return squares
