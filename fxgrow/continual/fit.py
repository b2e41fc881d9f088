"""Training a network of which some entries are locked."""

from collections.abc import Iterator, Mapping
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


def train_task(
    network: nn.Module,
    batches: Loader,
    loss: LossFunction,
    settings: TrainSettings,
    free: FreeMasks,
) -> None:
    """Train the entries ``free`` of a network; all others keep their bits.

    Raises ``TrainingError`` (``nan-loss``) before a loss that is no finite number can reach the weights.
    """
    learning = {name: parameter for name, parameter in network.named_parameters() if name in free}
    optimizer = settings.optimizer(list(learning.values()))
    total, done = settings.epochs * len(batches), 0

    def on_step(_: int, __: float) -> None:
        nonlocal done
        done += 1
        settings.set_rate(optimizer, done / total)

    with frozen_parameters(network, except_for=learning), _locked(learning, free, optimizer):
        try:
            for _ in range(settings.epochs):
                train_epoch(network, batches, loss, optimizer, on_step)
        finally:
            network.zero_grad(set_to_none=True)


@contextmanager
def _locked(
    learning: Mapping[str, nn.Parameter], free: FreeMasks, optimizer: Optimizer
) -> Iterator[None]:
    """After every step the entries that are not free are put back: whatever the optimiser does, decay included."""
    held = [
        (p, free[name], p.detach().clone()) for name, p in learning.items() if not free[name].all()
    ]

    @torch.no_grad()
    def put_back(*_: object) -> None:
        for parameter, mask, kept in held:
            parameter.copy_(torch.where(mask, parameter, kept))

    handle = optimizer.register_step_post_hook(put_back)
    try:
        yield
    finally:
        handle.remove()
