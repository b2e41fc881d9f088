"""Algorithm 1: phases of training with a growth step between them.

Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020, Algorithm 1.
How we differ: the state of the optimizer is grown along with the model by a rule of
``surgery.state_rules`` instead of being rebuilt, and the learning rate follows one cosine over the
whole run.
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

from fxgrow.argument_checks import checked
from fxgrow.capture import capture
from fxgrow.coupling import couple
from fxgrow.data import Batches, Splits, batches
from fxgrow.errors import GrowthError, TrainingError
from fxgrow.growth import (
    ALL_WIDTHS,
    Batch,
    Budget,
    Growth,
    GrowthReport,
    Method,
    Scope,
    StepOptions,
    grow_step,
    take_batches,
)
from fxgrow.randomness import seeded
from fxgrow.spec import ArchitectureSpec, GrowthStep, describe
from fxgrow.surgery import StateTreatment
from fxgrow.training.control import Control, control
from fxgrow.training.epoch import train_epoch
from fxgrow.training.evaluate import EVALUATION_BATCH, Evaluation, cross_entropy, evaluate
from fxgrow.training.events import (
    BatchDone,
    EpochDone,
    GrowthDone,
    GrowthSkipped,
    GrowthStarted,
    Listener,
    RunStarted,
    no_callback,
)
from fxgrow.training.settings import RunSettings
from fxgrow.training.sgd import set_rate, training_batches
from fxgrow.training.step_memory import require_step_memory


@dataclass(frozen=True, eq=False)
class Network:
    """A model, its graph (of the same modules) and its spec."""

    module: nn.Module
    graph_module: fx.GraphModule
    spec: ArchitectureSpec


@dataclass(frozen=True, eq=False)
class Evaluations:
    """The model of a run at one moment: its size, and its evaluation on both sets of images."""

    parameters: int
    train: Evaluation
    test: Evaluation


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Args:
        initial: the network before the run.
        final: the network at the end.
        before: evaluation just before the first growth step.
        after: evaluation at the end; the same object as ``before`` if nothing was grown.
        growths: the growth steps, in order.
        epoch_seconds: time of training of every epoch.
        controls: what the seconds of each growth step would have done as plain training.

    Example:
        >>> run = train_and_grow(model, data, settings, **growth)
        >>> run.after.test.accuracy - run.before.test.accuracy
        0.07
    """

    initial: Network
    final: Network
    before: Evaluations
    after: Evaluations
    growths: tuple[Growth, ...]
    epoch_seconds: tuple[float, ...]
    controls: tuple[Control, ...] = ()


@checked
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
    """Train a copy of a model, and grow it between the phases of training.

    The same settings give the same result; the state of torch's generators is restored.

    Args:
        model: a classifier; it is not changed.
        data: training images, and test images that nothing is decided by.
        settings: how long to train, how often to grow, and the settings of SGD.
        example_inputs: arguments of the model, for its capture.
        method: chooses what grows.
        budget: how much a growth step may add.
        history: growth steps that the model has behind it.
        scope: which widths may grow, and which grow alike.
        callback: called with every event, in order.

    Returns:
        The finished run.

    Raises:
        TrainingError: the loss is not a finite number (``nan-loss``).
        CaptureError: the model cannot be captured.
        GrowthError: the model cannot be grown.

    Example:
        >>> data = fxgrow.data.load_data("digits", channels=1, size=8)
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10))
        >>> run = train_and_grow(
        ...     model, data, RunSettings(), example_inputs=(data.train.images[:1],),
        ...     method=fxgrow.Firefly(), budget=fxgrow.Budget(neurons=2),
        ... )
        >>> run.final.module[1].out_features
        8
    """
    require_step_memory(model, data.train.images, settings.batch_size)
    initial = capture_network(model, example_inputs, history)
    # One copy of module and graph together, so that they go on sharing their parameters.
    state = RunState.start(copy.deepcopy(initial), data, settings, callback)
    before = None
    with seeded(settings.seed):
        for phase, epochs in enumerate(settings.phases):
            if phase > 0:  # a growth step lies between two phases
                before = before or state.evaluations()
                state = state.after_growth(phase, example_inputs, method, budget, scope)
            for _ in range(epochs):
                state = state.after_epoch(phase)
        after = state.evaluations()
    told = (state.growths, state.seconds, state.controls)
    return Run(initial, state.network, before or after, after, *told)


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
    controls: tuple[Control, ...] = ()
    seconds: tuple[float, ...] = field(default=())

    @staticmethod
    def start(
        network: Network, data: Splits, settings: RunSettings, callback: Listener
    ) -> "RunState":
        """A run of which nothing is done yet."""
        shuffling = torch.Generator().manual_seed(settings.seed)
        train = training_batches(data.train, settings.batch_size, shuffling)
        callback(RunStarted(settings, len(train), network.spec.cost.parameters))
        optimizer = SGD(
            network.module.parameters(),
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        # A generator of its own, so that the order of training does not depend on what grows.
        growth_rng = torch.Generator().manual_seed(settings.seed + 1)
        test = batches(data.test, EVALUATION_BATCH)
        return RunState(network, optimizer, data, settings, callback, train, test, growth_rng)

    def evaluations(self) -> Evaluations:
        """Evaluate the model on the training and test images, in evaluation mode."""
        train = evaluate(self.network.module, batches(self.data.train, EVALUATION_BATCH))
        if not math.isfinite(train.loss):
            raise TrainingError(
                "nan-loss",
                f"the loss on the training images is {train.loss} after epoch "
                f"{len(self.seconds)}, so the run is worthless; lower the learning rate (it starts "
                f"at {self.settings.lr:g})",
            )
        test = evaluate(self.network.module, self.test)
        return Evaluations(self.network.spec.cost.parameters, train, test)

    def after_epoch(self, phase: int) -> "RunState":
        """Train for one epoch."""
        epoch, start = len(self.seconds), time.perf_counter()

        def on_step(batch: int, loss: float) -> None:
            # The rate falls step by step; a step is this share of an epoch.
            self._set_rate(epoch + (batch + 1) / len(self.train))
            self.callback(BatchDone(epoch + 1, batch + 1, loss))

        self._set_rate(epoch)
        loss = train_epoch(self.network.module, self.train, cross_entropy, self.optimizer, on_step)
        seconds = time.perf_counter() - start
        test_accuracy = evaluate(self.network.module, self.test).accuracy
        rate = self.optimizer.param_groups[0]["lr"]
        self.callback(EpochDone(epoch + 1, phase, loss, test_accuracy, rate, seconds))
        return replace(self, seconds=(*self.seconds, seconds))

    def _set_rate(self, epochs: float) -> None:
        """The learning rate after so many epochs, which need not be whole."""
        set_rate(self.optimizer, self.settings.learning_rate(epochs / self.settings.epochs))

    def after_growth(
        self,
        step: int,
        example_inputs: tuple[Any, ...],
        method: Method,
        budget: Budget,
        scope: Scope,
    ) -> "RunState":
        """Do one growth step, unless it gains nothing; ``step`` counts from 1."""
        epoch, kept = len(self.seconds), take_batches(self._growth_batches(), method)
        self.callback(GrowthStarted(step, epoch))
        try:
            growth = grow_step(
                self.network.module,
                kept,
                cross_entropy,
                method=method,
                budget=budget,
                options=self._growth_options(step, example_inputs, scope),
            )
        except GrowthError as error:
            if error.code != "gained-nothing":
                raise
            # The epochs so far are not lost: the model trains on, and may grow at the next step.
            self.callback(GrowthSkipped(step, epoch, str(error)))
            return self
        tested = evaluate(growth.module, self.test)
        against = self._control(growth.report, tested.loss, kept)
        self.callback(GrowthDone(step, epoch, growth.report, tested.accuracy, against))
        grown = Network(growth.module, growth.graph_module, growth.spec)
        return replace(
            self,
            network=grown,
            # The optimizer of the grown weights; their momentum has grown along, by the rule.
            optimizer=growth.optimizer or self.optimizer,
            growths=(*self.growths, growth),
            controls=(*self.controls, against),
        )

    def _control(self, report: GrowthReport, loss: float, kept: Sequence[Batch]) -> Control:
        """What the seconds of a growth would have done as training of the model before it."""
        order = torch.Generator().manual_seed(self.settings.seed)  # the run's own stays unmoved
        train = training_batches(self.data.train, self.settings.batch_size, order)
        used = kept[: report.batches.searched] if report.batches else kept
        model, optimizer = self.network.module, self.optimizer
        # How long it trains depends on the clock, so whatever it draws must not move what follows.
        with seeded(self.settings.seed):
            return control(model, optimizer, loss, report.seconds, train, used, self.test)

    def _growth_options(
        self, step: int, example_inputs: tuple[Any, ...], scope: Scope
    ) -> StepOptions:
        """How a growth step runs: on copies, so that a step that gains nothing leaves no trace."""
        return StepOptions(
            optimizer=self.optimizer,
            seed=self.settings.seed + step,  # other candidates at every step
            history=self.network.spec.history,
            memory_limit=self.settings.memory_limit,
            accept_no_gain=self.settings.accept_no_gain,
            scope=scope,
            example_inputs=example_inputs,
            treatment=StateTreatment(self.settings.state, self.settings.new_entry_rate),
        )

    def _growth_batches(self) -> Batches:
        """Training images in an order of their own, never more per batch than there are."""
        settings, data = self.settings, self.data.train
        size = min(settings.growth_batch_size, len(data))
        return batches(
            data,
            size,
            shuffle=True,
            generator=self.growth_rng,
            limit=settings.growth_batches,
            drop_last=True,
        )
