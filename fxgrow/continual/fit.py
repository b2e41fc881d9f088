"""Training on one task: the epochs, and entries that are locked meanwhile."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fxgrow.continual.settings import Loader, TrainSettings
from fxgrow.growth import LossFunction
from fxgrow.modes import frozen_parameters
from fxgrow.training import train_epoch

FreeMasks = Mapping[str, Tensor]
"""Per name of a parameter that may learn, which of its entries do."""
AfterStep = Callable[[float], None]
"""Called after every step of the optimizer with the learning rate of that step."""


def train_task(
    network: nn.Module,
    batches: Loader,
    loss: LossFunction,
    settings: TrainSettings,
    free: FreeMasks,
) -> None:
    """Train some entries of a network in place; all others keep their bits.

    Args:
        network: the network.
        batches: the training batches; they are gone through once per epoch.
        loss: of the network's output and the labels.
        settings: the length of the training and the settings of SGD.
        free: by name of a parameter, which of its entries learn.

    Raises:
        TrainingError: ``nan-loss``, before a loss that is no finite number can reach the weights.
        DataError: ``no-batches``.
    """
    learning: dict[str, nn.Parameter] = {}
    for name, parameter in network.named_parameters():
        if name in free:
            learning[name] = parameter
    optimizer = settings.optimizer(list(learning.values()))
    with frozen_parameters(network, except_for=learning), _locked(learning, free, optimizer):
        try:
            train_epochs(network, batches, loss, settings, optimizer)
        finally:
            network.zero_grad(set_to_none=True)


def train_epochs(
    network: nn.Module,
    batches: Loader,
    loss: LossFunction,
    settings: TrainSettings,
    optimizer: Optimizer,
    after_step: AfterStep | None = None,
) -> None:
    """Train for all epochs of the settings, in place, with a new learning rate for every step.

    Args:
        network: the network.
        batches: the training batches; they are gone through once per epoch.
        loss: of the network's output and the labels.
        settings: the length of the training, and how the learning rate falls.
        optimizer: holds the parameters that learn, at the learning rate of the first step.
        after_step: called after every step with the learning rate of that step.

    Raises:
        TrainingError: ``nan-loss``, before a loss that is no finite number can reach the weights.
        DataError: ``no-batches``.
    """
    total_steps = settings.epochs * len(batches)
    steps_done = 0

    def on_step(_: int, __: float) -> None:
        nonlocal steps_done
        if after_step is not None:
            after_step(settings.learning_rate(steps_done / total_steps))
        steps_done += 1
        # The rate of the next step; the first one has the optimizer's own.
        settings.set_rate(optimizer, steps_done / total_steps)

    for _ in range(settings.epochs):
        train_epoch(network, batches, loss, optimizer, on_step)


@contextmanager
def _locked(
    learning: Mapping[str, nn.Parameter], free: FreeMasks, optimizer: Optimizer
) -> Iterator[None]:
    """Put the entries that are not free back after every step of the optimizer.

    Masking gradients would not do: weight decay and momentum move entries without a gradient too.
    """
    partly_locked: list[tuple[nn.Parameter, Tensor, Tensor]] = []
    for name, parameter in learning.items():
        mask = free[name]
        # Parameters that learn as a block need no copy.
        if not mask.all():
            partly_locked.append((parameter, mask, parameter.detach().clone()))

    @torch.no_grad()
    def put_back(*_: object) -> None:
        for parameter, mask, original in partly_locked:
            parameter.copy_(torch.where(mask, parameter, original))

    handle = optimizer.register_step_post_hook(put_back)
    try:
        yield
    finally:
        handle.remove()
