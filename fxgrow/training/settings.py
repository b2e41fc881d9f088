"""The settings of a run, and what follows from them."""

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import ClassVar

from pydantic import ConfigDict, Field, model_validator
from torch.optim import SGD, AdamW, Optimizer

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Count, Finite, Trainable
from fxgrow.documents import Settings, limits
from fxgrow.errors import TrainingError
from fxgrow.surgery import DEFAULT_STATE, NewEntryRate, StateRuleName
from fxgrow.training.augmentation import Augmentation
from fxgrow.training.average import MovingAverage
from fxgrow.training.compiled import Compilation
from fxgrow.training.early_stop import EarlyStop
from fxgrow.training.optimizers import AdamWSettings, OptimizerSettings, SGDSettings
from fxgrow.training.precision import PrecisionName
from fxgrow.training.schedules import CosineRate, Schedule, require_short_warmup
from fxgrow.training.triggers import (
    AtEpochs,
    EqualPhases,
    GrowWhen,
    equal_phases,
    without_validation,
)

_MOMENTUM = 0.9


class RunSettings(Settings):
    """How long to train, by which optimizer, and how often to grow.

    A growth step lies between two epochs, never after the last one; ``grow_when`` says where. By
    default the epochs are cut into ``grow_steps`` + 1 phases of equal length (to one epoch). The
    learning rate follows its schedule over the whole run, by default half a cosine from ``lr`` to
    ``final_lr``.

    Args:
        epochs: passes over the training images in the whole run; more than ``grow_steps``.
        grow_steps: number of growth steps; of triggers that wait for something, the largest number.
            0 is plain training.
        grow_when: the trigger: ``EqualPhases``, ``EveryEpochs``, ``AtEpochs``, ``AtSteps``,
            ``OnPlateau``, ``UntilNoGain``, ``OnFullRank`` or ``ByPromise``.
        validation: share of the training images that are set aside for the trigger and the early
            stop to measure on, and not trained on; at least one image if it is not 0.
        optimizer: ``SGDSettings`` or ``AdamWSettings``.
        schedule: ``CosineRate``, ``ConstantRate`` or ``StepRate``, each with a warm-up.
        lr: learning rate at the start, after the warm-up if there is one.
        final_lr: learning rate at the end of a cosine.
        momentum: momentum of SGD.
        weight_decay: L2 penalty of SGD, decoupled weight decay of AdamW.
        label_smoothing: share of the target that goes to all classes alike, in the loss that is
            trained and that growth lowers; evaluations are without it.
        clip: gradients whose total norm is larger are scaled down to this norm; None: never.
        batch_size: images per training step.
        augmentation: what becomes of the training images in every pass.
        precision: of the passes of training steps: ``bfloat16`` and ``float16`` by
            ``torch.autocast``, the latter with scaled losses and on GPUs only. Growth steps and
            evaluations are in full precision.
        ema: a moving average of the weights, which grows along; None: none is kept.
        early_stop: when to end before all epochs are over; None: never.
        compile: training steps by ``torch.compile``; None: as the model's code says.
        growth_batches: most batches that a growth step looks at; None: as many as it can use once.
        growth_batch_size: training images in each of them.
        state: what becomes of the optimizer's moments when the model grows
            (``docs/optimizers.md``).
        new_entry_rate: how much faster than the rest new entries learn; None: as fast.
        memory_limit: bytes that a growth step may hold for its candidates; None: no limit.
        accept_no_gain: grow even where nothing that was found lowers the loss; else such a growth
            step is left out, and training goes on.
        seed: draws the order of the images, the candidates, and all that torch draws in the run.

    Raises:
        TrainingError: there is no epoch (``no-epochs``) or not one per phase (``too-few-epochs``);
            the trigger or the early stop needs images that are set aside (``no-validation``);
            ``bad-setting`` for a value out of range, or one without effect.

    Example:
        >>> settings = RunSettings(epochs=6, grow_steps=2, lr=0.1)
        >>> settings.phases
        (2, 2, 2)
        >>> settings.learning_rate(progress=0.5)
        0.05
    """

    model_config = ConfigDict(allow_inf_nan=False)
    old_names: ClassVar[Mapping[str, str]] = MappingProxyType({"memory": "memory_limit"})

    # Zero and negative numbers pass here, to get the error below instead of pydantic's.
    epochs: int = Field(default=6, ge=-limits.EPOCHS, le=limits.EPOCHS)
    grow_steps: int = Field(default=2, ge=0, le=limits.GROWTH_STEPS)
    grow_when: GrowWhen = EqualPhases()
    validation: float = Field(default=0.0, ge=0, lt=1)
    optimizer: OptimizerSettings = SGDSettings()
    schedule: Schedule = CosineRate()
    lr: float = Field(default=0.01, gt=0, le=limits.RATE)
    final_lr: float = Field(default=0.0, ge=0, le=limits.RATE)
    momentum: float = Field(default=_MOMENTUM, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0, le=limits.RATE)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    clip: float | None = Field(default=None, gt=0, le=limits.RATE)
    batch_size: int = Field(default=32, ge=1, le=limits.BATCH)
    augmentation: Augmentation = Augmentation()
    precision: PrecisionName = "float32"
    ema: MovingAverage | None = None
    early_stop: EarlyStop | None = None
    compile: Compilation | None = None
    growth_batches: int | None = Field(default=None, ge=1, le=limits.BATCHES)
    growth_batch_size: int = Field(default=64, ge=1, le=limits.BATCH)
    state: StateRuleName = DEFAULT_STATE
    new_entry_rate: NewEntryRate | None = None
    memory_limit: float | None = Field(default=None, gt=0, le=limits.MEMORY)
    accept_no_gain: bool = False
    seed: int = Field(default=0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _phases_have_epochs(self) -> "RunSettings":
        if self.epochs < 1:
            raise TrainingError(
                "no-epochs", f"{self.epochs} epochs train nothing; ask for 1 or more"
            )
        if self.epochs <= self.grow_steps:
            raise TrainingError(
                "too-few-epochs",
                f"{self.epochs} epochs are too few to train before, between and after "
                f"{self.grow_steps} growth steps; ask for at least {self.grow_steps + 1} epochs or "
                "for fewer growth steps",
            )
        return self

    @model_validator(mode="after")
    def _trigger_fits(self) -> "RunSettings":
        trigger = self.grow_when
        if "validation" in trigger.needs and not self.validation:
            raise without_validation(trigger.name)
        if isinstance(trigger, AtEpochs):
            count, last = len(set(trigger.epochs)), max(trigger.epochs)
            if count > self.grow_steps or last >= self.epochs:
                raise TrainingError(
                    "bad-setting",
                    f"AtEpochs names {count} epochs up to number {last}, but a run of "
                    f"{self.epochs} epochs with grow_steps={self.grow_steps} cannot grow after all "
                    "of them and train on; correct one of these",
                )
        return self

    @model_validator(mode="after")
    def _can_stop_early(self) -> "RunSettings":
        if self.early_stop is None:
            return self
        if not self.validation:
            raise without_validation("an early stop")
        if self.early_stop.patience >= self.epochs - 1:
            raise _without_effect(
                f"an early stop with patience={self.early_stop.patience}",
                f"a run of {self.epochs} epochs; give a smaller one, or",
            )
        return self

    @model_validator(mode="after")
    def _settings_have_an_effect(self) -> "RunSettings":
        # The defaults pass: recipes of runs have every setting written out.
        if self.optimizer.name != "sgd" and self.momentum != _MOMENTUM:
            raise _without_effect(
                f"momentum={self.momentum:g}", f"{self.optimizer.name}, which has betas;"
            )
        # Only a cosine ends at a rate of its own.
        if self.schedule.name != "cosine" and self.final_lr:
            raise _without_effect(
                f"final_lr={self.final_lr:g}",
                f"the schedule {self.schedule.name}, which does not end there;",
            )
        require_short_warmup(self.schedule.warmup, self.epochs, "epochs")
        return self

    @classmethod
    def _error(cls, sentence: str) -> TrainingError:
        """The error that a wrong value raises."""
        return TrainingError("bad-setting", sentence)

    @property
    def phases(self) -> tuple[int, ...]:
        """The number of epochs of every phase, if the phases are equal."""
        ends = (0, *equal_phases(self.epochs, self.grow_steps), self.epochs)
        return tuple(end - start for start, end in pairwise(ends))

    @checked
    def learning_rate(self, progress: Finite, steps: Count = limits.TRAINING_STEPS) -> float:
        """The learning rate when the share ``progress`` (0 to 1) of the run is done.

        Only a warm-up asks how many ``steps`` the whole run has; by default so many that one is
        next to nothing.
        """
        return self.schedule.rate(self.lr, self.final_lr, progress, self.epochs, steps)

    @checked
    def new_optimizer(self, model: Trainable) -> Optimizer:
        """The optimizer of all parameters of ``model``, before its first step."""
        chosen, parameters = self.optimizer, model.parameters()
        if isinstance(chosen, AdamWSettings):
            return AdamW(
                parameters,
                lr=self.lr,
                betas=chosen.betas,
                eps=chosen.eps,
                weight_decay=self.weight_decay,
            )
        return SGD(parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)


def _without_effect(what: str, on: str) -> TrainingError:
    """The error of a setting that changes nothing; what it is without effect on, and why."""
    return TrainingError("bad-setting", f"{what} has no effect on {on} leave it out")
