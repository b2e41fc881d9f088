"""Random search with weight sharing.

Reference: Li & Talwalkar, "Random Search and Reproducibility for Neural Architecture Search", UAI 2019; this is ENAS
(Pham et al., ICML 2018) without its controller: cells are drawn uniformly and never learnt. How we differ: all
candidates are compared on all validation batches given (theirs: many on one batch, then a few on all), and batch norms
take the statistics of the batch (see ``supernet``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from pydantic import Field
from torch.optim import Optimizer

from fxgrow.cells.baselines.random_cells import random_genotype
from fxgrow.cells.baselines.search_cost import FORWARD, TRAINING_FACTOR, SearchCost, search_cost
from fxgrow.cells.baselines.supernet import FixedChoiceNetwork, Supernet, single_path, supernet_for
from fxgrow.cells.genotype import Genotype
from fxgrow.cells.result import (
    RankedCells,
    SearchEpoch,
    SearchListener,
    SearchResult,
    Stopwatch,
    no_callback,
    search_result,
)
from fxgrow.cells.space import SearchSpace
from fxgrow.data import Batches, DataSet
from fxgrow.growth import Batch
from fxgrow.training import (
    WeightTraining,
    cross_entropy,
    evaluate,
    seeded,
    set_rate,
    sgd_step,
    shuffled,
)


class WeightSharing(WeightTraining):
    """Train the supernet on one random path per batch, then keep the best of ``candidates`` random cells.

    They are compared by accuracy, then by loss, with the shared weights, on ``valid_batches`` batches (None: all).
    """

    candidates: int = Field(default=100, ge=1)
    valid_batches: int | None = Field(default=None, ge=1)

    def search(
        self,
        space: SearchSpace,
        train: DataSet,
        valid: DataSet,
        *,
        seed: int = 0,
        callback: SearchListener = no_callback,
    ) -> SearchResult:
        """Raises ``DataError`` if there is no batch of two images, ``TrainingError`` if the loss is no number."""
        rng = torch.Generator().manual_seed(seed)
        training, validation = (shuffled(part, self.batch_size, rng) for part in (train, valid))
        with seeded(seed):
            supernet = supernet_for(space, train, valid)
        costs = search_cost(space, supernet, train.images.shape[1:])
        shared = Shared(self, space, supernet, costs, self.optimizer(supernet), rng)
        clock, spent = Stopwatch.start(), 0
        epochs = []
        for epoch in range(self.epochs):
            set_rate(shared.optimizer, self.learning_rate(epoch))
            loss, cost = shared.epoch(training)
            spent += cost
            epochs.append(
                SearchEpoch(
                    epoch=epoch + 1, train_loss=loss, seconds=clock.seconds, multiply_adds=spent
                )
            )
            callback(epochs[-1])
        ranked, cost = shared.rank(list(replace(validation, limit=self.valid_batches)))
        best = ranked[0].genotype
        return search_result(
            clock, self, space, seed, best, multiply_adds=spent + cost, epochs=epochs, ranked=ranked
        )


@dataclass(frozen=True, eq=False)
class Shared:
    """A search going on: the weights that all cells share, and what draws the cells."""

    settings: WeightSharing
    space: SearchSpace
    supernet: Supernet
    costs: SearchCost
    optimizer: Optimizer
    rng: torch.Generator

    def epoch(self, batches: Batches) -> tuple[float, int]:
        """Train a random path on every batch; the mean loss, and the multiply-adds."""
        losses, spent = [], 0
        for images, labels in batches:
            genotype = random_genotype(self.space, self.rng)
            loss = cross_entropy(self.supernet(images, single_path(self.space, genotype)), labels)
            losses.append(sgd_step(self.optimizer, loss, self.settings.clip))
            spent += TRAINING_FACTOR * len(labels) * self.costs.path(self.space, genotype)
        return sum(losses) / len(losses), spent

    def rank(self, batches: Sequence[Batch]) -> tuple[list[RankedCells], int]:
        """Compare random cells on the same batches, the best first; and the multiply-adds."""
        genotypes = [random_genotype(self.space, self.rng) for _ in range(self.settings.candidates)]
        ranked = sorted(
            (self._judged(genotype, batches) for genotype in genotypes), key=_worst_last
        )
        images = sum(len(labels) for _, labels in batches)
        return ranked, FORWARD * images * sum(
            self.costs.path(self.space, genotype) for genotype in genotypes
        )

    def _judged(self, genotype: Genotype, batches: Sequence[Batch]) -> RankedCells:
        found = evaluate(
            FixedChoiceNetwork(self.supernet, single_path(self.space, genotype)), batches
        )
        return RankedCells(genotype=genotype, loss=found.loss, accuracy=found.accuracy)


def _worst_last(ranked: RankedCells) -> tuple[float, float]:
    return -ranked.accuracy, ranked.loss
