"""What a run cannot do is refused before its first training step, not when it gets there."""

import math
import shutil
from pathlib import Path

from torch import nn

from fxgrow.data import Splits, batches
from fxgrow.errors import RunError, TrainingError
from fxgrow.growth import check_step
from fxgrow.modes import evaluation_mode
from fxgrow.randomness import kept_random_states
from fxgrow.surgery import named_tensors
from fxgrow.training.augmentation import require_augmentation
from fxgrow.training.checkpoints import KEPT
from fxgrow.training.compiled import require_compilation
from fxgrow.training.measure import activation_spectra, require_gains_of, without_costs
from fxgrow.training.optimizers import AdamWSettings
from fxgrow.training.precision import require_precision
from fxgrow.training.run_state import RunState
from fxgrow.training.schedules import require_short_warmup
from fxgrow.training.settings import RunSettings
from fxgrow.training.shards import require_method, require_shards
from fxgrow.training.step_memory import require_step_memory
from fxgrow.training.triggers import AtSteps, ByPromise, OnFullRank, first_epoch

_SMALL_FILES = 2**17
"""Bytes of everything but tensors, per checkpoint: generators, numbers, architecture."""


def require_possible_training(model: nn.Module, data: Splits, settings: RunSettings) -> None:
    """Check what training alone needs, before anything is made for it.

    Args:
        model: what is trained, on its device.
        data: what it is trained on.
        settings: of the run.

    Raises:
        TrainingError: ``too-large``; ``bad-setting`` for a precision, a backend or an augmentation
            that there is not for this device or these images; ``not-compilable``;
            ``missing-extra``.
        ModelError: ``unsafe-convolution``.
    """
    require_step_memory(model, data.train.images, settings.batch_size)
    # Memory first: the next check runs the model.
    require_precision(settings.precision, model, data.train.images[:2])
    require_augmentation(settings.augmentation, data)
    require_compilation(settings.compile, model, data.train.images[:2])


def require_possible_run(state: RunState, checkpoints: Path | None) -> None:
    """Check that a run can do what it is asked for, as far as that can be told before it starts.

    A growth step is carried out on shapes: its budget, its patterns and ties, its memory. Room on
    the disk is counted for the network as it is now.

    Args:
        state: the run at its start.
        checkpoints: where it keeps checkpoints, if it does.

    Raises:
        FxgrowError: what a growth step would raise; ``disk-full`` (``RunError``);
            ``no-promise``, ``no-activations``, ``bad-setting`` for a warm-up as long as the run,
            and for a trigger that waits until it is over (``TrainingError``);
            ``one-process``, and ``bad-setting`` for batches that are smaller than a process group.
    """
    # One in epochs is compared with the run where the settings are made.
    steps = state.settings.epochs * len(state.train)
    require_short_warmup(state.settings.schedule.warmup_steps, steps, "steps")
    _require_processes(state)
    _require_time_to_grow(state.settings, len(state.train))
    # Of several processes one writes.
    if checkpoints is not None and state.shards.ranks.is_first:
        _require_disk(state, checkpoints)
    if state.settings.grow_steps:
        with kept_random_states():  # the same run with and without this check
            _require_growth(state)


def _require_processes(state: RunState) -> None:
    """Check what the processes of a group cannot do together."""
    settings, images, has_growth = state.settings, len(state.data.train), state.settings.grow_steps
    batch, growth_batch = min(settings.batch_size, images), min(settings.growth_batch_size, images)
    module = state.network.module
    require_shards(state.shards, module, batch, growth_batch, has_growth=bool(has_growth))
    if has_growth:
        require_method(state.shards, state.request.method, state.request.budget)


def _require_time_to_grow(settings: RunSettings, batches_per_epoch: int) -> None:
    """Not where the settings are made: runs that grew nothing are read back from their files."""
    trigger = settings.grow_when
    first = first_epoch(trigger)
    if isinstance(trigger, AtSteps):
        first = math.ceil(min(trigger.steps) / batches_per_epoch)
    # Nothing grows at the end, for what is grown has to be trained.
    if settings.grow_steps and first >= settings.epochs:
        raise TrainingError(
            "bad-setting",
            f"{trigger.name} asks for no growth before epoch {first}, and a run of "
            f"{settings.epochs} epochs grows nothing at its end, so it would never grow; train "
            "longer, let it wait less, or say grow_steps=0",
        )


def _require_growth(state: RunState) -> None:
    settings, request, train = state.settings, state.request, state.data.train
    # One batch of the size that growth batches will have; none is drawn for it.
    size = min(settings.growth_batch_size, len(train))
    unknown = check_step(
        state.network.module,
        list(batches(train.first(size), size)),
        state.loss,
        method=request.method,
        budget=request.budget,
        options=state.growth_options(state.average, describe=False, costs=True),
    )
    trigger = settings.grow_when
    if isinstance(trigger, ByPromise) and unknown:
        raise without_costs(unknown)
    if isinstance(trigger, OnFullRank):
        with evaluation_mode(state.network.module):
            activation_spectra(state.network.module, request.example_inputs, (train.images[:2],))


def require_gains(state: RunState) -> None:
    """Check that the scores of a method are gains, if the trigger compares them with training."""
    if state.settings.grow_steps:
        require_gains_of(state.request.method, state.settings.grow_when)


def _require_disk(state: RunState, directory: Path) -> None:
    """The checkpoints that lie there at a time, the one that is written, and the result."""
    weights = 0
    for tensor in named_tensors(state.network.module).values():
        weights += tensor.numel() * tensor.element_size()
    # Each moment is as large as the weights; the first checkpoint has none.
    settings = state.settings
    moments = 2 if isinstance(settings.optimizer, AdamWSettings) else int(settings.momentum > 0)
    with_optimizer = weights * (1 + moments)
    averaged = 0 if state.average is None else weights
    needed = (KEPT + 1) * (with_optimizer + averaged + _SMALL_FILES) + 3 * weights
    # The directory is made with the first checkpoint.
    existing = directory.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise RunError(
            "disk-full",
            f"the checkpoints and the result of this run take {needed} bytes before anything has "
            f"grown, and there are {free} free at {existing}; make room, or choose another disk",
        )
