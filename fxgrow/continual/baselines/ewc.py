"""Elastic weight consolidation: weights that earlier tasks depend on are held where they were.

Reference: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 114, 2017. The loss of a
task is (Eq. 3, one term for each earlier task k)

    L(theta) + sum_k lambda / 2 * sum_i F_k,i (theta_i - theta*_k,i)^2

with theta*_k the weights at the end of task k and F_k the diagonal of the Fisher information there: the mean over its
images of the squared gradient of log p(y | x), y drawn from what the network says. How we differ: after every step of
SGD at the rate r the penalty takes an implicit one, theta <- argmin of it + |theta' - theta|^2 (1 - momentum) / (2 r),
which has the same fixed point and which no lambda makes diverge, as an explicit one does if lambda r F is large. Tasks
have heads and normalisations (affine parameters and statistics) of their own, which nothing holds. F is estimated on
the first images of the task. Kept of the past besides the network: sum_k F_k and sum_k F_k theta*_k.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fxgrow.continual.baselines.common import (
    _TRAINING_FACTOR,
    SharedTrunk,
    Stopwatch,
    train_network,
)
from fxgrow.continual.settings import TrainSettings
from fxgrow.continual.strategy import TaskStats
from fxgrow.continual.task import Task
from fxgrow.data import DataSet
from fxgrow.modes import evaluation_mode
from fxgrow.spec import StrictModel
from fxgrow.training import logits

NamedTensorMap = dict[str, Tensor]


class EwcSettings(StrictModel):
    """``strength``: lambda, by default that of the authors' Atari games; ``images``: that many to estimate F on.

    F is small where a task is classified with certainty, so ``strength`` is to be chosen for the data at hand.
    """

    strength: float = Field(default=400.0, ge=0)
    images: int = Field(default=200, ge=1)


_SETTINGS = EwcSettings()


@dataclass(frozen=True, eq=False)
class EwcPenalty:
    """What all tasks so far hold together, by name: ``stiffness`` sum_k F_k and ``pull`` sum_k F_k theta*_k."""

    stiffness: NamedTensorMap = field(default_factory=dict)
    pull: NamedTensorMap = field(default_factory=dict)

    def with_task(self, fisher: NamedTensorMap, weights: Mapping[str, Tensor]) -> "EwcPenalty":
        """One task more, which ends at ``weights``."""
        stiffness = {name: f + self.stiffness.get(name, 0) for name, f in fisher.items()}
        pull = {
            name: f * weights[name].detach() + self.pull.get(name, 0) for name, f in fisher.items()
        }
        return EwcPenalty(stiffness, pull)

    @torch.no_grad()
    def hold(self, parameters: Mapping[str, nn.Parameter], rate: float) -> None:
        """One implicit step of the penalty at the rate ``rate`` times its strength."""
        for name, stiffness in self.stiffness.items():
            parameters[name].add_(self.pull[name], alpha=rate).div_(1 + rate * stiffness)


class Ewc:
    """A ``Learner`` that trains one copy of ``model``. Raises ``GrowthError`` (``no-head``)."""

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        *,
        head: str | None = None,
        train: TrainSettings = _TRAINING_FACTOR,
        settings: EwcSettings = _SETTINGS,
    ) -> None:
        self._trunk = SharedTrunk.of(model, example_inputs, head, own_norms=True)
        self._train = train
        self._settings = settings
        self._springs = EwcPenalty()

    @property
    def parameters(self) -> int:
        """Those of the network, and of a head and normalisations per task; the Fisher information is not counted."""
        return self._trunk.parameters

    def learn(self, task: Task, *, seed: int = 0) -> TaskStats:
        """Raises ``DataError`` (``known-task``, ``no-batches``), ``TrainingError`` (``nan-loss``)."""
        clock = Stopwatch()
        network = self._trunk.add(task, seed)
        shared = self._trunk.shared()
        factor = self._settings.strength / (1 - self._train.momentum)
        springs = self._springs
        train_network(
            network,
            task.train,
            self._train,
            seed=seed,
            after_step=lambda rate: springs.hold(shared, factor * rate),
        )
        seen, generator = (
            task.train.first(self._settings.images),
            torch.Generator().manual_seed(seed),
        )
        self._springs = springs.with_task(
            fisher_information(network, shared, seen, generator), shared
        )
        return clock.learnt(task)

    def network(self, task: str) -> nn.Module:
        """A copy of the network as it is now, with what is the own of ``task``.

        Raises ``DataError`` (``unknown-task``).
        """
        return self._trunk.network(task)


def fisher_information(
    network: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    data: DataSet,
    generator: torch.Generator,
) -> NamedTensorMap:
    """The diagonal of the Fisher information of ``parameters``, in evaluation mode; classes are drawn by ``generator``.

    A gradient per image: squares do not add up over a batch.
    """
    trained = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    found = {name: torch.zeros_like(parameter) for name, parameter in trained.items()}
    with evaluation_mode(network):
        for image in data.images.split(1):
            scores = logits(network(image))
            drawn = torch.multinomial(scores.detach().softmax(1).cpu(), 1, generator=generator)[
                :, 0
            ].to(scores.device)
            gradients = torch.autograd.grad(
                F.cross_entropy(scores, drawn), list(trained.values()), allow_unused=True
            )
            for total, gradient in zip(found.values(), gradients, strict=True):
                if gradient is not None:
                    total.add_(gradient.square(), alpha=1 / len(data))
    return found
