"""Cell search by growth: train a small template, grow the channels of its operations now and then, read off the cells.

Reference: Wu et al. 2020, Sec. 3 (100 epochs, a growth every 10, 5 stacked cells). How we differ: candidates at the
same place of all cells of one kind are scored and grown as one (``growth.ties``), so the cells of a kind stay the same.
Where the paper gives no setting, it is ours; weights are trained as in DARTS. Weights and growth see the same training
images; the images kept for validation are not used.
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from fxgrow.cells.derive import Derivation
from fxgrow.cells.genotype import Genotype
from fxgrow.cells.result import (
    GrowthRecord,
    SearchEpoch,
    SearchListener,
    SearchResult,
    Stopwatch,
    no_callback,
    search_result,
)
from fxgrow.cells.space import SearchSpace
from fxgrow.cells.template import GROWING, cell_ties, channels, layer_ties, template
from fxgrow.data import DataSet, batches
from fxgrow.growth import Budget, GrowthReport, Scope, grow_step
from fxgrow.methods import Firefly
from fxgrow.spec import multiply_adds
from fxgrow.training import WeightTraining, cross_entropy, seeded, set_rate, sgd_step, shuffled

_TRAINING_FACTOR = 3
"""Forward and backward pass, in forward passes."""
_MEASURED_BATCH = ("loss_before", "loss_after", "faithful_error", "preservation_error", "seconds")
"""What is kept of the report of a growth."""


class FireflySearch(WeightTraining):
    """Settings: those of the weights, then those of growth.

    The template grows every ``grow_every`` epochs, by the share ``neurons`` of the hidden neurons that it has.
    ``hidden``: channels in every operation at first; ``growth_batches``: batches that decide what grows; ``layers``:
    residual layers that a growth step may put behind operations (``method.layers`` must then be above 0);
    ``derivation``: how cells are read off, by default not by the paper's rule (``Derivation()``) but by the one that
    gave better cells (``docs/results``).
    """

    epochs: int = Field(default=100, ge=1)
    grow_every: int = Field(default=10, ge=1)
    hidden: int = Field(default=2, ge=1)
    neurons: float = Field(default=0.15, gt=0)
    layers: int | None = None
    growth_batches: int = Field(default=4, ge=1)
    method: Firefly = Firefly(new=2, steps=8, refine_steps=4)
    derivation: Derivation = Derivation(identity_threshold=0.3, normalize_by_operation=True)

    def search(
        self,
        space: SearchSpace,
        train: DataSet,
        valid: DataSet,
        *,
        seed: int = 0,
        callback: SearchListener = no_callback,
    ) -> SearchResult:
        """Raises ``DataError`` if there is no batch of two images, and what growth raises."""
        with seeded(seed):
            run = _Run(self, space, train, seed)
            for epoch in range(1, self.epochs + 1):
                loss = run.train(epoch)
                if epoch % self.grow_every == 0:
                    run.grow(epoch)
                callback(run.record(epoch, loss))
        return search_result(
            run.clock,
            self,
            space,
            seed,
            run.genotype,
            multiply_adds=run.spent,
            epochs=run.epochs,
            grown=run.grown,
        )


class _Run:
    """A search between two of its epochs."""

    def __init__(
        self, settings: FireflySearch, space: SearchSpace, train: DataSet, seed: int
    ) -> None:
        self.settings, self.space, self.train_set, self.seed = settings, space, train, seed
        rng = torch.Generator().manual_seed(seed)
        self.batches = shuffled(train, settings.batch_size, rng)
        self.few = batches(
            train,
            min(settings.batch_size, len(train)),
            shuffle=True,
            generator=rng,
            limit=settings.growth_batches,
        )
        network = template(space, settings.hidden, int(train.labels.max()) + 1)
        self.network: nn.Module = network.to(train.images.device)
        self.optimizer: Optimizer = settings.optimizer(self.network)
        self.clock, self.spent, self.price = Stopwatch.start(), 0, self._price()
        self.epochs: list[SearchEpoch] = []
        self.grown = [self._grown(0, None)]

    @property
    def genotype(self) -> Genotype:
        """What would be derived now."""
        return self.settings.derivation.derive(
            channels(self.network, self.space), self.settings.hidden
        )

    def train(self, epoch: int) -> float:
        """One epoch of plain training; gives the mean loss."""
        set_rate(self.optimizer, self.settings.learning_rate(epoch - 1))
        self.network.train()
        losses = []
        for images, labels in self.batches:
            loss = cross_entropy(self.network(images), labels)
            losses.append(sgd_step(self.optimizer, loss, self.settings.clip))
            self.spent += _TRAINING_FACTOR * self.price * len(labels)
        return sum(losses) / len(losses)

    def grow(self, epoch: int) -> None:
        """One growth step, the cells of a kind alike.

        Every pass is counted as one through the graph with all candidates, and as if a backward pass followed.
        """
        settings, seen = self.settings, [0]

        def loss(output: Any, labels: Tensor) -> Tensor:
            seen[0] += len(labels)
            return cross_entropy(output, labels)

        growth = grow_step(
            self.network, list(self.few), loss, example_inputs=(self.train_set.images[:1],), method=settings.method,
            budget=Budget(neurons=settings.neurons, layers=settings.layers), optimizer=self.optimizer,
            seed=self.seed + epoch, scope=self._scope(), describe=False,
        )  # fmt: skip
        self.spent += _TRAINING_FACTOR * seen[0] * growth.report.multiply_adds_overgrown
        self.network, self.optimizer = growth.module, growth.optimizer or self.optimizer
        self.price = growth.report.multiply_adds_after
        self.grown.append(self._grown(epoch, growth.report))

    def _price(self) -> int:
        """Multiply-adds of one image's forward pass."""
        return multiply_adds(self.network, (self.train_set.images[:1],))

    def _scope(self) -> Scope:
        layers = layer_ties(self.space) if self.settings.method.layers else ()
        return Scope(only=(GROWING,), tie=(*cell_ties(self.space), *layers))

    def _grown(self, epoch: int, report: GrowthReport | None) -> GrowthRecord:
        found = {str(spot): count for spot, count in channels(self.network, self.space).items()}
        return GrowthRecord(
            epoch=epoch,
            channels=found,
            **({name: getattr(report, name) for name in _MEASURED_BATCH} if report else {}),
        )

    def record(self, epoch: int, loss: float) -> SearchEpoch:
        """The epoch that ends now."""
        self.epochs.append(
            SearchEpoch(
                epoch=epoch,
                train_loss=loss,
                seconds=self.clock.seconds,
                multiply_adds=self.spent,
                genotype=self.genotype,
            )
        )
        return self.epochs[-1]
