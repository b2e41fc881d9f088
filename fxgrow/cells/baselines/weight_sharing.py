"""Random search with weight sharing.

Reference: Li & Talwalkar, "Random Search and Reproducibility for Neural Architecture Search", UAI
2019; this is ENAS (Pham et al., ICML 2018) without its controller: cells are drawn uniformly and
never learned. How we differ: all candidates are compared on all validation batches given (theirs:
many on one batch, then a few on all), and batch norms take the statistics of the batch (see
``supernet``).
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
    no_callback,
    search_result,
)
from fxgrow.cells.space import SearchSpace
from fxgrow.data import Batches, DataSet
from fxgrow.growth import Batch
from fxgrow.timing import Stopwatch
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
    """Train a supernet on one random path per batch, then keep the best of some random cells.

    Candidates are compared by accuracy, then by loss, with the shared weights. The fields are the
    settings of the weights, then:

    Args:
        candidates: number of random cells that are compared.
        valid_batches: validation batches that they are compared on; None: all.
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
        """Search for cells.

        Raises ``DataError`` if there is no batch of two images, ``TrainingError`` if the loss is
        not a finite number.
        """
        # One generator draws the order of the images, the paths and the candidates.
        rng = torch.Generator().manual_seed(seed)
        training = shuffled(train, self.batch_size, rng)
        validation = shuffled(valid, self.batch_size, rng)
        with seeded(seed):
            supernet = supernet_for(space, train, valid)
        costs = search_cost(space, supernet, train.images.shape[1:])
        state = WeightSharingState(self, space, supernet, costs, self.optimizer(supernet), rng)
        stopwatch, spent = Stopwatch.start(), 0
        epochs = []
        for epoch in range(self.epochs):
            set_rate(state.optimizer, self.learning_rate(epoch))
            loss, cost = state.epoch(training)
            spent += cost
            record = SearchEpoch(
                epoch=epoch + 1, train_loss=loss, seconds=stopwatch.seconds, multiply_adds=spent
            )
            epochs.append(record)
            callback(record)
        ranked, cost = state.rank(list(replace(validation, limit=self.valid_batches)))
        return search_result(
            stopwatch,
            self,
            space,
            seed,
            ranked[0].genotype,
            multiply_adds=spent + cost,
            epochs=epochs,
            ranked=ranked,
        )


@dataclass(frozen=True, eq=False)
class WeightSharingState:
    """A search between two of its epochs: the weights that all cells share, and their optimizer."""

    settings: WeightSharing
    space: SearchSpace
    supernet: Supernet
    costs: SearchCost
    optimizer: Optimizer
    rng: torch.Generator

    def epoch(self, batches: Batches) -> tuple[float, int]:
        """Train a random path on every batch.

        Returns the mean loss per batch and the multiply-adds.
        """
        losses, spent = [], 0
        for images, labels in batches:
            genotype = random_genotype(self.space, self.rng)
            loss = cross_entropy(self.supernet(images, single_path(self.space, genotype)), labels)
            losses.append(sgd_step(self.optimizer, loss, self.settings.clip))
            spent += TRAINING_FACTOR * len(labels) * self.costs.path(self.space, genotype)
        return sum(losses) / len(losses), spent

    def rank(self, batches: Sequence[Batch]) -> tuple[list[RankedCells], int]:
        """Compare random cells on the same batches.

        Returns the cells, best first, and the multiply-adds.
        """
        candidates = self.settings.candidates
        # From one generator: fewer candidates are the first of more.
        genotypes = [random_genotype(self.space, self.rng) for _ in range(candidates)]
        images = sum(len(labels) for _, labels in batches)
        ranked, spent = [], 0
        for genotype in genotypes:
            ranked.append(self._evaluated(genotype, batches))
            spent += FORWARD * images * self.costs.path(self.space, genotype)
        return sorted(ranked, key=_worst_last), spent

    def _evaluated(self, genotype: Genotype, batches: Sequence[Batch]) -> RankedCells:
        network = FixedChoiceNetwork(self.supernet, single_path(self.space, genotype))
        result = evaluate(network, batches)
        return RankedCells(genotype=genotype, loss=result.loss, accuracy=result.accuracy)


def _worst_last(ranked: RankedCells) -> tuple[float, float]:
    return -ranked.accuracy, ranked.loss
