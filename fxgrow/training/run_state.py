"""A run between two of its steps: an epoch, a decision of the trigger, a growth step."""

import copy
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from fxgrow.data import Batches, Splits, batches
from fxgrow.errors import GrowthError, InternalError, TrainingError
from fxgrow.growth import (
    Batch,
    Growth,
    GrowthReport,
    LossFunction,
    StepOptions,
    grow_step,
    take_batches,
)
from fxgrow.randomness import kept_random_states, seeded
from fxgrow.surgery import StateTreatment
from fxgrow.training.attempt import Attempt
from fxgrow.training.augmentation import augmented
from fxgrow.training.average import averaged_network, new_average
from fxgrow.training.compiled import training_model
from fxgrow.training.control import Control, control
from fxgrow.training.early_stop import growth_steps_left
from fxgrow.training.epoch import train_epoch
from fxgrow.training.evaluate import EVALUATION_BATCH, Evaluation, cross_entropy
from fxgrow.training.events import (
    BatchDone,
    EpochDone,
    GrowthDone,
    GrowthPhase,
    GrowthSkipped,
    GrowthStarted,
    Listener,
    StoppedEarly,
)
from fxgrow.training.growth_request import GrowthRequest, growth_batches
from fxgrow.training.history import Measurement, Promise, Spectrum, TrainingHistory
from fxgrow.training.measure import (
    RANK_IMAGES,
    activation_spectra,
    promise_of,
    set_aside,
    training_multiply_adds,
)
from fxgrow.training.network import Evaluations, Network
from fxgrow.training.precision import Precision, copy_precision, precision_of
from fxgrow.training.settings import RunSettings
from fxgrow.training.sgd import set_rate, training_batches
from fxgrow.training.shards import UNDIVIDED, Shards
from fxgrow.training.step_result import StepRecord, step_record


@dataclass(frozen=True, eq=False)
class RunState:
    """A run between two of its steps. Training changes ``network`` in place, growth replaces it."""

    network: Network
    optimizer: Optimizer
    data: Splits
    settings: RunSettings
    request: GrowthRequest
    callback: Listener
    train: Batches
    test: Batches
    validation: Batches | None
    growth_rng: torch.Generator
    history: TrainingHistory
    trained: nn.Module
    """What training steps run: the network's module, or that compiled."""
    precision: Precision
    average: AveragedModel | None
    shards: Shards = UNDIVIDED
    before: Evaluations | None = None
    growths: tuple[Growth, ...] = ()
    records: tuple[StepRecord, ...] = ()
    seconds: tuple[float, ...] = ()
    undecided: bool = False
    """Whether the trigger is to be asked before the next epoch."""

    @staticmethod
    def start(
        network: Network,
        data: Splits,
        settings: RunSettings,
        request: GrowthRequest,
        callback: Listener,
    ) -> "RunState":
        """A run of which nothing is done yet."""
        data, aside = set_aside(data, settings.validation, settings.seed)
        shuffling = torch.Generator().manual_seed(settings.seed)
        train = training_batches(data.train, settings.batch_size, shuffling)
        optimizer = settings.new_optimizer(network.module)
        # A generator of its own, so that the order of training does not depend on what grows.
        growth_rng = torch.Generator().manual_seed(settings.seed + 1)
        test = batches(data.test, EVALUATION_BATCH)
        validation = None if aside is None else batches(aside, EVALUATION_BATCH)
        history = TrainingHistory((), epochs=settings.epochs, grow_steps=settings.grow_steps)
        model, ema = network.module, settings.ema
        return RunState(
            network,
            optimizer,
            data,
            settings,
            request,
            callback,
            train,
            test,
            validation,
            growth_rng,
            history,
            trained=training_model(model, settings.compile),
            precision=precision_of(settings.precision, model),
            average=None if ema is None else new_average(model, ema.decay),
            shards=Shards.of_process(model, settings.seed),
        )

    def with_network(self, network: Network, average: AveragedModel | None) -> "RunState":
        """The run with another network, and with its moving average if there is one."""
        trained = self.shards.wrapped(training_model(network.module, self.settings.compile))
        return replace(self, network=network, trained=trained, average=average)

    def begun(self) -> "RunState":
        """The run just before its first step; of several processes, with the weights of the first.

        Not at ``start``: what follows it may refuse the run, and put other weights in.
        """
        return self if self.shards.is_alone else self.with_network(self.network, self.average)

    @property
    def shuffling(self) -> torch.Generator:
        """Draws the order of the training images."""
        generator = self.train.generator
        if generator is None:
            raise InternalError("training images are taken in a random order, always")
        return generator

    @property
    def loss(self) -> LossFunction:
        """The loss that is trained, and that growth lowers; evaluations are by cross entropy."""
        # Without smoothing the function itself, as before there was any.
        smoothing = self.settings.label_smoothing
        return partial(cross_entropy, label_smoothing=smoothing) if smoothing else cross_entropy

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do; a growth step that is due comes before an early stop."""
        if len(self.seconds) >= self.settings.epochs:
            return True
        stop = self.settings.early_stop
        return stop is not None and not self.undecided and stop.is_due(self.history)

    @property
    def published(self) -> Network:
        """What the run gives if it ends now: the network, or with averaged weights."""
        # Without one that is to be published it is the same object: nothing is copied.
        ema = self.settings.ema
        if self.average is None or ema is None or not ema.publish:
            return self.network
        return averaged_network(self.network, self.average)

    def _may_grow(self, epochs: int) -> bool:
        """Whether there are epochs left to train a grown model, and growth steps."""
        epochs_left = epochs < self.settings.epochs
        return epochs_left and len(self.history.growths) < self.settings.grow_steps

    def after_next(self) -> "RunState":
        """The next step: an epoch, or what the trigger says between two of them."""
        state = self._after_decision() if self.undecided else self._after_epoch()
        # Said by the step that ends the run, so that it is in the log before the last checkpoint.
        stop, epochs = self.settings.early_stop, len(state.seconds)
        if stop is not None and state.is_done and epochs < self.settings.epochs:
            left = growth_steps_left(self.settings.grow_when, state.history)
            self.callback(StoppedEarly(epochs, stop.patience, left))
        return state

    def evaluations(self) -> Evaluations:
        """Evaluate what is published on the training and test images, in evaluation mode."""
        network = self.published
        train = self.shards.evaluate(network.module, batches(self.data.train, EVALUATION_BATCH))
        if not math.isfinite(train.loss):
            raise TrainingError(
                "nan-loss",
                f"the loss on the training images is {train.loss} after epoch "
                f"{len(self.seconds)}, so the run is worthless; lower the learning rate (it starts "
                f"at {self.settings.lr:g})",
            )
        test = self.shards.evaluate(network.module, self.test)
        return Evaluations(network.spec.cost.parameters, train, test)

    def _after_epoch(self) -> "RunState":
        """Train for one epoch, and measure."""
        epoch, start = len(self.seconds), time.perf_counter()

        def on_step(batch: int, loss: float) -> None:
            # Of the module itself: a compiled one only shares its weights.
            if self.average is not None:
                self.average.update_parameters(self.network.module)
            # The rate falls step by step; a step is this share of an epoch.
            self._set_rate(epoch + (batch + 1) / len(self.train))
            done = epoch * len(self.train) + batch + 1
            self.callback(BatchDone(epoch + 1, batch + 1, loss, done))

        self._set_rate(epoch)
        images, clip = self._augmented(self.train), self.settings.clip
        loss = train_epoch(
            self.trained,
            images,
            self.loss,
            self.optimizer,
            on_step,
            clip,
            self.precision,
            self.shards,
            first_step=epoch * len(self.train),
        )
        # What is evaluated and grown is the same in all processes.
        self.shards.share_buffers(self.network.module, self.average)
        seconds = time.perf_counter() - start
        now = self._measurement(epoch + 1, loss)
        self._announce_epoch(now, seconds)
        history = replace(self.history, measurements=(*self.history.measurements, now))
        # What is not in a checkpoint must not be there for what follows either.
        self.optimizer.zero_grad(set_to_none=True)
        seconds_so_far, undecided = (*self.seconds, seconds), self._may_grow(epoch + 1)
        return replace(self, seconds=seconds_so_far, history=history, undecided=undecided)

    def _augmented(self, train: Batches) -> Iterable[Batch]:
        return augmented(train, self.settings.augmentation, self.data)

    def _announce_epoch(self, now: Measurement, seconds: float) -> None:
        """Evaluate on the test images, which decide nothing, and tell of the epoch."""
        tested = self.shards.evaluate(self.network.module, self.test)
        averaged = self._evaluated_average(self.average)
        event = EpochDone(
            epoch=now.epoch,
            phase=len(self.history.growths),
            loss=now.loss,
            test_accuracy=tested.accuracy,
            lr=self.optimizer.param_groups[0]["lr"],
            seconds=seconds,
            optimizer_step=now.step,
            test_loss=tested.loss,
            validation_loss=now.validation_loss,
            validation_accuracy=now.validation_accuracy,
            average_accuracy=None if averaged is None else averaged.accuracy,
            average_loss=None if averaged is None else averaged.loss,
        )
        self.callback(event)

    def _evaluated_average(self, average: AveragedModel | None) -> Evaluation | None:
        """A moving average on the test images; None if there is none."""
        return None if average is None else self.shards.evaluate(average.module, self.test)

    def _measurement(self, epoch: int, loss: float) -> Measurement:
        """What is known at the end of an epoch."""
        per_pass = self.network.spec.cost.multiply_adds
        spent = training_multiply_adds(per_pass, self.request.examples, len(self.data.train))
        measurement = Measurement(
            epoch=epoch,
            step=epoch * len(self.train),
            loss=loss,
            multiply_adds=self.history.now.multiply_adds + spent,
        )
        if self.validation is None:
            return measurement
        result = self.shards.evaluate(self.network.module, self.validation)
        return replace(
            measurement, validation_loss=result.loss, validation_accuracy=result.accuracy
        )

    def _set_rate(self, epochs: float) -> None:
        """The learning rate after so many epochs, which need not be whole."""
        settings = self.settings
        steps = settings.epochs * len(self.train)
        set_rate(self.optimizer, settings.learning_rate(epochs / settings.epochs, steps))

    def _after_decision(self) -> "RunState":
        """Ask the trigger, and grow if it says so."""
        return replace(self._grown_or_not(), undecided=False)

    def _grown_or_not(self) -> "RunState":
        trigger = self.settings.grow_when
        asked = trigger.asks(self.history)
        if asked == "promise":
            return self._after_trial()
        state = self._measured(spectra=self._spectra()) if asked == "spectra" else self
        if not state._is_asked_to_grow():
            return state
        # First, since a loss that is no number is to be told of as one of training.
        before = state._evaluated_before()
        return state._after_attempt(state._attempt(), before)

    def _after_trial(self) -> "RunState":
        """Try a growth step, and keep it if the trigger likes what it promises."""
        attempt = self._attempt()
        promise = Promise(0.0, 0.0)  # of a growth step that gained nothing
        if attempt.growth is not None:
            size = int(self.shards.ranks.total(len(attempt.batches[0][1])))
            promise = promise_of(attempt.growth.report, self.request.examples, size)
        state = self._measured(promise=promise)
        if state._is_asked_to_grow():
            # The network is what it was before the trial, which worked on copies.
            return state._after_attempt(attempt, state._evaluated_before())
        reason = attempt.reason or "it promises less per multiply-add than training delivers"
        self.callback(GrowthSkipped(self._next_step, len(self.seconds), reason))
        return state

    def _is_asked_to_grow(self) -> bool:
        """What the trigger says; that of the first process, should rounding set them apart."""
        asked = self.settings.grow_when.should_grow(self.history)
        return self.shards.ranks.decided(asked)

    def _measured(self, **values: Any) -> "RunState":
        """The run with more in its last measurement."""
        *earlier, now = self.history.measurements
        measurements = (*earlier, replace(now, **values))
        return replace(self, history=replace(self.history, measurements=measurements))

    def _spectra(self) -> tuple[Spectrum, ...]:
        images = self.data.train.images[:RANK_IMAGES]
        return activation_spectra(self.network.module, self.request.example_inputs, (images,))

    def _evaluated_before(self) -> Evaluations:
        """The evaluation before the first growth step that grew, or else this one."""
        return self.before or self.evaluations()

    @property
    def _next_step(self) -> int:
        """The number of the next growth step, from 1."""
        return len(self.history.growths) + 1

    def _attempt(self) -> Attempt:
        """Do a growth step on copies, so that one that gains nothing leaves no trace."""
        drawn = growth_batches(self.settings, self.data.train, self.growth_rng)
        kept = self.shards.of_all(take_batches(drawn, self.request.method))
        self.callback(GrowthStarted(self._next_step, len(self.seconds)))
        # Companions grow in place, and this step may be thrown away.
        average = copy.deepcopy(self.average)
        try:
            growth = grow_step(
                self.network.module,
                kept,
                self.loss,
                method=self.request.method,
                budget=self.request.budget,
                options=self.growth_options(average),
            )
        except GrowthError as error:
            if error.code != "gained-nothing":
                raise
            return Attempt(kept, None, reason=str(error))
        return Attempt(kept, growth, average)

    def _after_attempt(self, attempt: Attempt, before: Evaluations) -> "RunState":
        """Go on with the grown model; with the old one, if the growth step gained nothing."""
        step, epoch, growth = self._next_step, len(self.seconds), attempt.growth
        # An attempt that gained nothing counts too, else a trigger would ask for it for ever.
        marks = (*self.history.growths, len(self.history.measurements))
        history = replace(self.history, growths=marks)
        if growth is None:
            # The epochs so far are not lost: the model trains on, and may grow at the next step.
            # It is none that the run could be compared around, so ``before`` is dropped.
            self.callback(GrowthSkipped(step, epoch, attempt.reason))
            return replace(self, history=history)
        tested = self.shards.evaluate(growth.module, self.test)
        # It takes as long as the growth did, so whoever waits is told.
        self.callback(GrowthPhase(step, "compare with training"))
        against = self._control(growth.report, tested.loss, attempt.batches)
        averaged = self._evaluated_average(attempt.average)
        event = GrowthDone(
            step=step,
            epoch=epoch,
            report=growth.report,
            test_accuracy=tested.accuracy,
            control=against,
            optimizer_step=self.history.now.step,
            average_accuracy=None if averaged is None else averaged.accuracy,
            average_loss=None if averaged is None else averaged.loss,
        )
        self.callback(event)
        network = Network(growth.module, growth.graph_module, growth.spec)
        return replace(
            self.with_network(network, attempt.average),
            # The optimizer of the grown weights; their momentum has grown along, by the rule.
            optimizer=growth.optimizer or self.optimizer,
            history=history,
            before=before,
            growths=(*self.growths, growth),
            records=(*self.records, step_record(growth, against, epoch)),
        )

    def _control(self, report: GrowthReport, loss: float, kept: Sequence[Batch]) -> Control:
        """What the seconds of a growth would have done as training of the model before it."""
        order = torch.Generator().manual_seed(self.settings.seed)  # the run's own stays unmoved
        train = training_batches(self.data.train, self.settings.batch_size, order)
        used = kept[: report.batches.searched] if report.batches else kept
        model, optimizer = self.network.module, self.optimizer
        # How long it trains depends on the clock, so whatever it draws must not move what follows.
        with kept_random_states(), seeded(self.settings.seed):
            return control(
                model,
                optimizer,
                loss,
                report.seconds,
                self._augmented(train),
                used,
                self.test,
                trained_loss=self.loss,
                clip=self.settings.clip,
                precision=copy_precision(self.precision),
                shards=self.shards,
            )

    def growth_options(
        self, average: AveragedModel | None, describe: bool = True, costs: bool | None = None
    ) -> StepOptions:
        """How the next growth step runs; the average grows along, in place."""
        return StepOptions(
            companions=() if average is None else (average,),
            describe=describe,
            costs=costs,
            optimizers=(self.optimizer,),
            seed=self.settings.seed + self._next_step,  # other candidates at every step
            history=self.network.spec.history,
            memory_limit=self.settings.memory_limit,
            accept_no_gain=self.settings.accept_no_gain,
            scope=self.request.scope,
            example_inputs=self.request.example_inputs,
            treatment=StateTreatment(self.settings.state, self.settings.new_entry_rate),
            on_phase=self._tell_phase,
        )

    def _tell_phase(self, name: str, done: int, total: int) -> None:
        self.callback(GrowthPhase(self._next_step, name, done, total))
