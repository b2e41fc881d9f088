"""Algorithm 1: phases of training with a growth step between them.

Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020, Algorithm 1. How we differ: the
optimiser's state is grown along with the model instead of being rebuilt, and the learning rate follows one cosine over
the whole run.
"""

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx, nn
from torch.optim import SGD, Optimizer

from fxgrow.capture import capture
from fxgrow.coupling import couple
from fxgrow.data import Batches, DataSet, Splits, batches
from fxgrow.errors import TrainingError
from fxgrow.growth import ALL_WIDTHS, Budget, Growth, Method, Scope, grow_step
from fxgrow.randomness import seeded
from fxgrow.spec import ArchitectureSpec, GrowthStep, describe
from fxgrow.training.epoch import train_epoch
from fxgrow.training.evaluate import Evaluation, cross_entropy, evaluate
from fxgrow.training.events import (
    BatchDone,
    EpochDone,
    GrowthDone,
    GrowthStarted,
    Listener,
    RunStarted,
    no_callback,
)
from fxgrow.training.settings import RunSettings

EVALUATION_BATCH = 256


@dataclass(frozen=True, eq=False)
class Network:
    """A model, its graph (of the same modules) and its spec."""

    module: nn.Module
    graph_module: fx.GraphModule
    spec: ArchitectureSpec


@dataclass(frozen=True, eq=False)
class Evaluations:
    """Where a run stood: loss on the training images and accuracy on the test images, in evaluation mode."""

    parameters: int
    train: Evaluation
    test: Evaluation


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run. ``initial``: the network as it was given; ``before``: just before the first growth step."""

    initial: Network
    final: Network
    before: Evaluations
    after: Evaluations
    growths: tuple[Growth, ...]
    epoch_seconds: tuple[float, ...]


def train_and_grow(
    model: nn.Module,
    data: Splits,
    settings: RunSettings,
    *,
    example_inputs: tuple[Any, ...],
    method: Method,
    budget: Budget,
    history: Sequence[GrowthStep] = (),
    scope: Scope = ALL_WIDTHS,
    callback: Listener = no_callback,
) -> Run:
    """Train a copy of ``model`` on ``data`` and grow it ``settings.grow_steps`` times by ``method`` within ``budget``.

    ``example_inputs``: tuple of arguments of the model; ``history``: growth steps that it has behind it; ``scope``:
    which widths may grow and which grow alike; ``listen`` hears every event. The same settings give the same result.
    Raises ``TrainingError`` if the loss is no number, and what capture and growth raise.
    """
    initial = capture_network(model, example_inputs, history)
    trainee = RunState.of(copy.deepcopy(initial), data, settings, callback)
    before = None
    with seeded(settings.seed):
        for phase, epochs in enumerate(settings.phases):
            if phase:
                before = before or trainee.moment()
                trainee = trainee.grown(phase, example_inputs, method, budget, scope)
            for _ in range(epochs):
                trainee = trainee.trained(phase)
        after = trainee.moment()
    return Run(initial, trainee.network, before or after, after, trainee.growths, trainee.seconds)


def capture_network(
    model: nn.Module, example_inputs: tuple[Any, ...], history: Sequence[GrowthStep] = ()
) -> Network:
    """Capture and describe a model; nothing is copied."""
    captured = capture(model, example_inputs)
    widths = couple(captured).widths
    spec = describe(captured.graph_module, example_inputs, widths=widths, history=history)
    return Network(captured.model, captured.graph_module, spec)


@dataclass(frozen=True, eq=False)
class RunState:
    """A run between two of its steps. Training changes ``network`` in place, growth replaces it."""

    network: Network
    optimizer: Optimizer
    data: Splits
    settings: RunSettings
    callback: Listener
    train: Batches
    test: Batches
    growth_rng: torch.Generator
    growths: tuple[Growth, ...] = ()
    seconds: tuple[float, ...] = field(default=())

    @staticmethod
    def of(start: Network, data: Splits, settings: RunSettings, callback: Listener) -> "RunState":
        """A run that has done nothing yet."""
        train = _training_batches(data.train, settings)
        callback(RunStarted(settings, len(train), start.spec.cost.parameters))
        optimizer = SGD(
            start.module.parameters(),
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        growth_rng = torch.Generator().manual_seed(settings.seed + 1)
        test = batches(data.test, EVALUATION_BATCH)
        return RunState(start, optimizer, data, settings, callback, train, test, growth_rng)

    def moment(self) -> Evaluations:
        """Measure where the run stands."""
        train = evaluate(self.network.module, batches(self.data.train, EVALUATION_BATCH))
        if not math.isfinite(train.loss):
            raise TrainingError(
                "nan-loss",
                f"the loss on the training images is {train.loss} after epoch {len(self.seconds)}, so the run is "
                f"worthless; lower the learning rate (it starts at {self.settings.lr:g})",
            )
        return Evaluations(
            self.network.spec.cost.parameters, train, evaluate(self.network.module, self.test)
        )

    def trained(self, phase: int) -> "RunState":
        """One epoch further."""
        epoch, start = len(self.seconds), time.perf_counter()

        def on_step(batch: int, loss: float) -> None:
            self._set_rate(epoch + (batch + 1) / len(self.train))
            self.callback(BatchDone(epoch + 1, batch + 1, loss))

        self._set_rate(epoch)
        loss = train_epoch(self.network.module, self.train, cross_entropy, self.optimizer, on_step)
        seconds = time.perf_counter() - start
        right = evaluate(self.network.module, self.test).accuracy
        self.callback(
            EpochDone(epoch + 1, phase, loss, right, self.optimizer.param_groups[0]["lr"], seconds)
        )
        return replace(self, seconds=(*self.seconds, seconds))

    def _set_rate(self, epochs: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate(epochs / self.settings.epochs)

    def grown(
        self,
        step: int,
        example_inputs: tuple[Any, ...],
        method: Method,
        budget: Budget,
        scope: Scope,
    ) -> "RunState":
        """One growth step further."""
        epoch = len(self.seconds)
        self.callback(GrowthStarted(step, epoch))
        growth = grow_step(
            self.network.module,
            self._growth_batches(),
            cross_entropy,
            example_inputs=example_inputs,
            method=method,
            budget=budget,
            optimizer=self.optimizer,
            seed=self.settings.seed + step,
            history=self.network.spec.history,
            memory_limit=self.settings.memory_limit,
            scope=scope,
        )
        right = evaluate(growth.module, self.test).accuracy
        self.callback(GrowthDone(step, epoch, growth.report, right))
        grown = Network(growth.module, growth.graph_module, growth.spec)
        return replace(
            self,
            network=grown,
            optimizer=growth.optimizer or self.optimizer,
            growths=(*self.growths, growth),
        )

    def _growth_batches(self) -> Batches:
        settings, data = self.settings, self.data.train
        size = min(settings.growth_batch_size, len(data))
        return batches(
            data, size, shuffle=True, generator=self.growth_rng, limit=settings.growth_batches
        )


def _training_batches(data: DataSet, settings: RunSettings) -> Batches:
    """All images in a new order every epoch; a last batch of one is left out, batch norm cannot train on it."""
    rng = torch.Generator().manual_seed(settings.seed)
    lonely = len(data) % settings.batch_size == 1 and len(data) > 1 and settings.batch_size > 1
    return batches(data, settings.batch_size, shuffle=True, generator=rng, drop_last=lonely)
