"""Cell search by growth: train a small template, grow the channels of its operations now and then, read off the cells.

Reference: Wu et al. 2020, Sec. 3 (100 epochs, a growth every 10, 5 stacked cells). How we differ: candidates at the
same place of all cells of one kind are scored and grown as one (``growth.ties``), so the cells of a kind stay the same.
Where the paper gives no setting, it is ours. Weights and growth see the same training images; the images kept for
validation are not used.
"""

import math

import torch
from pydantic import Field
from torch import nn
from torch.optim import SGD, Optimizer

from fxgrow.cells.derive import Derivation
from fxgrow.cells.genotype import Genotype
from fxgrow.cells.result import Clock, Listener, SearchEpoch, SearchResult, ignore
from fxgrow.cells.space import SearchSpace
from fxgrow.cells.template import GROWING, channels, layer_ties, template, ties
from fxgrow.data import DataSet, batches
from fxgrow.growth import Budget, GrowthReport, grow_step
from fxgrow.methods import Firefly
from fxgrow.spec import Frozen, MultiplyAdds, multiply_adds
from fxgrow.training import cross_entropy, train_epoch
from fxgrow.training.run import seeded

TRAINING = 3
"""Forward and backward pass, in forward passes."""
MEASURED = ("loss_before", "loss_after", "faithful_error", "preservation_error", "seconds")
"""What is kept of the report of a growth."""


class Grown(Frozen):
    """The template after a growth step: ``channels`` of every operation by its place, losses on the growth batches.

    A place is written ``kind state<-source operation``. The last five are None before the first growth.
    """

    epoch: int
    channels: dict[str, int]
    loss_before: float | None = None
    loss_after: float | None = None
    faithful_error: float | None = None
    preservation_error: float | None = None
    seconds: float | None = None


class FireflyResult(SearchResult):
    """What growth found; ``grown``: the channels of every operation at the start and after each growth step."""

    grown: tuple[Grown, ...]


class FireflySearch(Frozen):
    """Settings: a search grows every ``grow_every`` epochs, by the share ``neurons`` of the hidden neurons it has.

    ``hidden``: channels in every operation at first; ``growth_batches``: batches that decide what grows; ``layers``:
    residual layers that a growth step may put behind operations (``method.layers`` must then be above 0).
    """

    epochs: int = Field(default=20, ge=1)
    grow_every: int = Field(default=2, ge=1)
    hidden: int = Field(default=2, ge=1)
    neurons: float = Field(default=0.15, gt=0)
    layers: int | None = None
    batch_size: int = Field(default=64, ge=2)
    growth_batches: int = Field(default=4, ge=1)
    lr: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=3e-4, ge=0)
    method: Firefly = Firefly(new=2, steps=8, refine_steps=4)
    derivation: Derivation = Derivation()

    def search(
        self, space: SearchSpace, train: DataSet, valid: DataSet, *, seed: int = 0, listen: Listener = ignore
    ) -> FireflyResult:
        """See ``result.Search``."""
        with seeded(seed):
            run = _Run(self, space, train, seed)
            for epoch in range(1, self.epochs + 1):
                run.train(epoch)
                if epoch % self.grow_every == 0:
                    run.grow(epoch)
                listen(run.epochs[-1])
        return run.result(seed)


class _Run:
    """A search between two of its epochs."""

    def __init__(self, settings: FireflySearch, space: SearchSpace, train: DataSet, seed: int) -> None:
        self.settings, self.space, self.seed = settings, space, seed
        self.clock = Clock.start()
        self.image = train.images[:1]
        self.network: nn.Module = template(space, settings.hidden, int(train.labels.max()) + 1)
        self.optimizer: Optimizer = SGD(
            self.network.parameters(), settings.lr, settings.momentum, weight_decay=settings.weight_decay
        )
        self.batches = batches(
            train, settings.batch_size, shuffle=True, generator=torch.Generator().manual_seed(seed), drop_last=True
        )
        self.growth_rng = torch.Generator().manual_seed(seed + 1)
        self.train_set = train
        self.spent = 0
        self.epochs: list[SearchEpoch] = []
        self.grown = [self._grown(0, None)]

    def train(self, epoch: int) -> None:
        """One epoch of plain training; the learning rate falls along half a cosine."""

        def on_step(batch: int, _: float) -> None:
            self._set_rate((epoch - 1 + (batch + 1) / len(self.batches)) / self.settings.epochs)

        loss = train_epoch(self.network, self.batches, cross_entropy, self.optimizer, on_step)
        images = len(self.batches) * self.settings.batch_size
        self.spent += TRAINING * images * multiply_adds(self.network, (self.image,))
        self.epochs.append(self._epoch(epoch, loss))

    def grow(self, epoch: int) -> None:
        """One growth step, the cells of a kind alike. Its cost is counted as it is spent."""
        few = batches(
            self.train_set, self.settings.batch_size, shuffle=True, generator=self.growth_rng,
            limit=self.settings.growth_batches,
        )  # fmt: skip
        with MultiplyAdds() as counter:
            growth = grow_step(
                self.network, list(few), cross_entropy, example_inputs=(self.image,), method=self.settings.method,
                budget=Budget(neurons=self.settings.neurons, layers=self.settings.layers), optimizer=self.optimizer,
                seed=self.seed + epoch, only=[GROWING], tie=self._ties(),
            )  # fmt: skip
        self.spent += counter.total
        self.network, self.optimizer = growth.module, growth.optimizer or self.optimizer
        self.grown.append(self._grown(epoch, growth.report))
        self.epochs[-1] = self._epoch(epoch, self.epochs[-1].train_loss)

    def _ties(self) -> tuple[tuple[str, ...], ...]:
        return (*ties(self.space), *(layer_ties(self.space) if self.settings.method.layers else ()))

    def _set_rate(self, progress: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * (1 + math.cos(math.pi * progress)) / 2

    def _genotype(self) -> Genotype:
        return self.settings.derivation.derive(channels(self.network, self.space), self.settings.hidden)

    def _epoch(self, epoch: int, loss: float) -> SearchEpoch:
        return SearchEpoch(
            epoch=epoch,
            train_loss=loss,
            valid_loss=None,
            genotype=self._genotype(),
            seconds=self.clock.seconds,
            multiply_adds=self.spent,
        )

    def _grown(self, epoch: int, report: GrowthReport | None) -> Grown:
        found = {str(spot): count for spot, count in channels(self.network, self.space).items()}
        measured = {name: getattr(report, name) for name in MEASURED} if report else {}
        return Grown(epoch=epoch, channels=found, **measured)

    def result(self, seed: int) -> FireflyResult:
        """The finished search."""
        return FireflyResult(
            method="firefly",
            settings=self.settings.model_dump(mode="json"),
            space=self.space,
            seed=seed,
            genotype=self._genotype(),
            seconds=self.clock.seconds,
            cpu_seconds=self.clock.cpu_seconds,
            multiply_adds=self.spent,
            epochs=tuple(self.epochs),
            grown=tuple(self.grown),
        )
