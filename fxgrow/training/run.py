"""Algorithm 1: training, and growth steps where a trigger says so.

Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020, Algorithm 1.
How we differ: the state of the optimizer is grown along with the model by a rule of
``surgery.state_rules`` instead of being rebuilt, the learning rate follows one cosine over the
whole run, and any trigger of ``training.triggers`` decides when to grow.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fxgrow.argument_checks import checked
from fxgrow.data import Splits
from fxgrow.growth import (
    ALL_WIDTHS,
    Budget,
    Growth,
    Method,
    Scope,
)
from fxgrow.randomness import seeded
from fxgrow.ranks import Ranks
from fxgrow.spec import GrowthStep
from fxgrow.training.checkpoint import Checkpoint
from fxgrow.training.checkpoints import Checkpoints
from fxgrow.training.control import Control
from fxgrow.training.events import (
    CheckpointSaved,
    Listener,
    RunEnded,
    RunResumed,
    RunStarted,
    combine_listeners,
    stops_told_to,
)
from fxgrow.training.growth_request import GrowthRequest
from fxgrow.training.network import Evaluations, Network, capture_network
from fxgrow.training.preflight import (
    require_gains,
    require_possible_run,
    require_possible_training,
)
from fxgrow.training.resume import checkpoint_of, network_at, request_digest, restored
from fxgrow.training.run_state import RunState
from fxgrow.training.settings import RunSettings
from fxgrow.training.step_result import StepRecord


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Args:
        initial: the network before the run.
        final: the network at the end.
        before: evaluation just before the first growth step.
        after: evaluation at the end; the same object as ``before`` if nothing was grown.
        growths: the growth steps, in order; of a run that was resumed, those since then.
        epoch_seconds: time of training of every epoch.
        records: all growth steps in numbers.

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
    records: tuple[StepRecord, ...] = ()

    @property
    def controls(self) -> tuple[Control, ...]:
        """What the seconds of each growth step would have done as plain training."""
        return tuple(record.control for record in self.records)

    @property
    def growth_epochs(self) -> tuple[int, ...]:
        """How many epochs were done before each growth step."""
        return tuple(record.epoch for record in self.records)


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
    listeners: Sequence[Listener] = (),
    checkpoints: Checkpoints | None = None,
) -> Run:
    """Train a copy of a model, and grow it between epochs, when the trigger says so.

    The same settings give the same result; the state of torch's generators is restored. A run that
    was stopped goes on from its last checkpoint, and on the CPU ends with the same bits. In a group
    each process trains on its part of every batch, and the first alone writes and tells.

    Args:
        model: a classifier; it is not changed.
        data: training images, and test images that nothing is decided by.
        settings: how long to train, how often to grow, and by which optimizer.
        example_inputs: arguments of the model, for its capture.
        method: chooses what grows.
        budget: how much a growth step may add.
        history, scope: growth steps behind the model; which widths may grow, which grow alike.
        listeners: each is called with every event, in order.
        checkpoints: written after every epoch and growth step; if there are some already, the run
            goes on from the last. None: nothing is kept.

    Returns:
        The finished run.

    Raises:
        TrainingError: the loss is not a finite number (``nan-loss``), or the trigger needs what
            the method does not give (``no-promise``) or the model (``no-activations``), or another
            process of the group is gone (``rank-failed``).
        FxgrowError: the model cannot be captured, or grown as it is asked for.
        RunError: checkpoints have no room (``disk-full``), are of an ``other-run``, or damaged.

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
    require_possible_training(model, data, settings)
    initial = capture_network(model, example_inputs, history)
    request = GrowthRequest(example_inputs, method, budget, scope)
    tell = combine_listeners(listeners if Ranks.of_process().is_first else ())
    # Module and graph are copied together, so that they go on sharing their parameters.
    state = RunState.start(copy.deepcopy(initial), data, settings, request, tell)
    require_gains(state)
    with stops_told_to(tell), state.shards.losses_told(), seeded(settings.seed):
        return _finished(*_carried_out(initial, state, checkpoints))


def _finished(initial: Network, state: RunState) -> Run:
    """Evaluate a run that is at its end."""
    after = state.evaluations()
    before, told = state.before or after, (state.growths, state.seconds, state.records)
    state.callback(RunEnded(len(state.seconds), before, after))
    return Run(initial, state.published, before, after, *told)


def _carried_out(
    initial: Network, state: RunState, checkpoints: Checkpoints | None
) -> tuple[Network, RunState]:
    """The network that a run started from, and the run at its end."""
    if checkpoints is not None:
        return _kept_to_the_end(initial, state, checkpoints)
    _announce(state)
    require_possible_run(state, None)
    _require_same_request(state, request_digest(state, initial))
    state = state.begun()
    while not state.is_done:
        state = state.after_next()
    return initial, state


def _require_same_request(state: RunState, request: str) -> None:
    """Check that all processes of a group were asked for the same run."""
    state.shards.ranks.require_same("settings, data or networks", request.encode())


def _announce(state: RunState) -> None:
    cost = state.network.spec.cost
    steps = len(state.train)
    state.callback(RunStarted(state.settings, steps, cost.parameters, cost.multiply_adds))


def _kept_to_the_end(
    initial: Network, state: RunState, checkpoints: Checkpoints
) -> tuple[Network, RunState]:
    """Start a run, or go on with it, and keep each of its steps.

    Args:
        initial: the network before the run.
        state: the run at its start.
        checkpoints: its checkpoints, if it was started before.

    Returns:
        The network that the run started from, and the run at its end.
    """
    request = request_digest(state, initial)
    last = _last(state.shards.ranks, checkpoints)
    if last is None:
        _announce(state)
        require_possible_run(state, checkpoints.directory)
        _require_same_request(state, request)
        state = state.begun()
        _keep(state, checkpoints, request)
    else:
        _require_same_request(state, request)
        state = restored(state, last, request)
        first = checkpoints.first() if state.shards.ranks.is_first else None
        initial = initial if first is None else network_at(initial, first)
        done = len(state.seconds)
        state.callback(RunResumed(state.settings, len(state.train), done, state.undecided))
    while not state.is_done:
        before, state = state, state.after_next()
        # A trigger that said no has changed nothing.
        if (
            len(state.seconds) > len(before.seconds)
            or state.history.growths != before.history.growths
        ):
            _keep(state, checkpoints, request)
    return initial, state


def _last(ranks: Ranks, checkpoints: Checkpoints) -> Checkpoint | None:
    """The last checkpoint, which all processes read where the first one finds it."""
    if ranks.count == 1:
        return checkpoints.last()
    last = checkpoints.last() if ranks.is_first else None
    number = -1 if last is None else checkpoints.number
    ranks.meet()
    (found,) = ranks.of_first([torch.tensor([number])])
    if not ranks.is_first and int(found) >= 0:
        last = checkpoints.read(int(found))
    ranks.meet()
    return last


def _keep(state: RunState, checkpoints: Checkpoints, request: str) -> None:
    state.shards.ranks.after_first(lambda: checkpoints.save(checkpoint_of(state, request)))
    state.callback(CheckpointSaved(len(state.seconds), checkpoints.directory))
