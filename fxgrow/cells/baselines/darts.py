"""DARTS: a gradient over a continuous choice.

Reference: Liu, Simonyan, Yang, "DARTS: Differentiable Architecture Search", ICLR 2019, Eqs. 2-8 and Algorithm 1. Every
edge computes the softmax mixture of its operations; its architecture weights descend on validation batches (Adam), the
shared weights on training batches (SGD), in turn. In the end every node keeps its two strongest incoming edges, and an
edge its strongest operation but ``none``. How we differ: batch norms take the statistics of the batch (see
``supernet``), the edges of a node are listed by their source, and gradients that nobody asks for are not computed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.func import functional_call
from torch.optim import SGD, Adam

from fxgrow.cells.baselines.architecture_gradient import (
    LossOfWeights,
    TensorTuple,
    VirtualStep,
    first_order,
    second_order,
)
from fxgrow.cells.baselines.search_cost import (
    ACTIVATION_GRADIENTS,
    FORWARD,
    TRAINING_FACTOR,
    search_cost,
)
from fxgrow.cells.baselines.supernet import Mixture, Supernet, supernet_for
from fxgrow.cells.genotype import GENOTYPE_VERSION, Cell, Edge, Genotype
from fxgrow.cells.result import (
    SearchEpoch,
    SearchListener,
    SearchResult,
    Stopwatch,
    no_callback,
    search_result,
)
from fxgrow.cells.space import EDGES_PER_NODE, NONE, SearchSpace
from fxgrow.cells.stack import CellKind
from fxgrow.data import DataSet
from fxgrow.growth import Batch
from fxgrow.training import (
    WeightTraining,
    cross_entropy,
    endless,
    seeded,
    set_rate,
    sgd_step,
    shuffled,
)

_INITIAL_SCALE = 1e-3
"""Standard deviation of the architecture's weights at the beginning."""
ARCHITECTURE_PASS = FORWARD + ACTIVATION_GRADIENTS


class Darts(WeightTraining):
    """Settings: those of the shared weights, then those of the architecture, by default the authors'.

    ``order``: 2 looks one step of the shared weights ahead, for 2.6 times the multiply-adds.
    """

    order: Literal[1, 2] = 2
    architecture_lr: float = Field(default=3e-4, gt=0)
    architecture_betas: tuple[float, float] = (0.5, 0.999)
    architecture_weight_decay: float = Field(default=1e-3, ge=0)

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
            descent = DartsState.start(self, space, supernet_for(space, train, valid), rng)
        price = search_cost(space, descent.supernet, train.images.shape[1:]).mixture
        judges = endless(validation)
        clock, spent = Stopwatch.start(), 0
        epochs = []
        for epoch in range(self.epochs):
            set_rate(descent.optimizer, self.learning_rate(epoch))
            steps = [descent.step(batch, next(judges)) for batch in training]
            spent += price * sum(step.images for step in steps)
            epochs.append(_record(epoch + 1, steps, clock, spent, descent.genotype))
            callback(epochs[-1])
        return search_result(
            clock, self, space, seed, descent.genotype, multiply_adds=spent, epochs=epochs
        )


@dataclass(frozen=True)
class DartsStep:
    """The losses of one step, and the images that it passed forward, weighted by what each pass costs."""

    train_loss: float
    valid_loss: float
    images: int


def _record(
    epoch: int, steps: Sequence[DartsStep], clock: Stopwatch, spent: int, genotype: Genotype
) -> SearchEpoch:
    return SearchEpoch(
        epoch=epoch,
        train_loss=sum(step.train_loss for step in steps) / len(steps),
        valid_loss=sum(step.valid_loss for step in steps) / len(steps),
        genotype=genotype,
        seconds=clock.seconds,
        multiply_adds=spent,
    )


@dataclass(frozen=True, eq=False)
class DartsState:
    """A search going on. ``architecture``: edges x operations before the softmax, for each kind of cell."""

    settings: Darts
    space: SearchSpace
    supernet: Supernet
    architecture: Mapping[CellKind, Tensor]
    optimizer: SGD
    architect: Adam

    @staticmethod
    def start(
        settings: Darts, space: SearchSpace, supernet: Supernet, rng: torch.Generator
    ) -> "DartsState":
        """Nothing is preferred yet, but for a little noise."""
        shape = space.edges, len(space.operations)
        like = next(supernet.parameters())
        architecture = {
            kind: (_INITIAL_SCALE * torch.randn(shape, generator=rng)).to(like).requires_grad_()
            for kind in CellKind
        }
        architect = Adam(
            architecture.values(),
            lr=settings.architecture_lr,
            betas=settings.architecture_betas,
            weight_decay=settings.architecture_weight_decay,
        )
        return DartsState(
            settings, space, supernet, architecture, settings.optimizer(supernet), architect
        )

    @property
    def genotype(self) -> Genotype:
        """What the architecture's weights stand for now."""
        return derive(
            self.space,
            {kind: weights.detach().softmax(1) for kind, weights in self.architecture.items()},
        )

    def step(self, train: Batch, valid: Batch) -> DartsStep:
        """The architecture on ``valid``, then the weights on ``train``."""
        valid_loss, gradients = self.architecture_gradient(train, valid)
        for weights, gradient in zip(self.architecture.values(), gradients, strict=True):
            weights.grad = gradient
        self.architect.step()
        images, labels = train
        fixed = [weights.detach() for weights in self.architecture.values()]
        loss = cross_entropy(self.supernet(images, self._mixtures(fixed)), labels)
        train_loss = sgd_step(self.optimizer, loss, self.settings.clip)
        return DartsStep(train_loss, float(valid_loss), self._images(len(labels), len(valid[1])))

    def architecture_gradient(self, train: Batch, valid: Batch) -> tuple[Tensor, list[Tensor]]:
        """The validation loss and its gradient, in the settings' order."""
        weights, architecture = list(self.supernet.parameters()), list(self.architecture.values())
        if self.settings.order == 1:
            return first_order(self._loss(valid), weights, architecture)
        return second_order(
            self._loss(train), self._loss(valid), weights, architecture, self._virtual_step(weights)
        )

    def _images(self, train: int, valid: int) -> int:
        """Order 2: a virtual step, the validation loss after it, two passes for the difference; then the real step."""
        if self.settings.order == 1:
            return ARCHITECTURE_PASS * valid + TRAINING_FACTOR * train
        return (
            TRAINING_FACTOR * (train + valid)
            + 2 * ARCHITECTURE_PASS * train
            + TRAINING_FACTOR * train
        )

    def _loss(self, batch: Batch) -> LossOfWeights:
        images, labels = batch
        names = [name for name, _ in self.supernet.named_parameters()]

        def loss(weights: TensorTuple, architecture: TensorTuple) -> Tensor:
            put = dict(zip(names, weights, strict=True))
            return cross_entropy(
                functional_call(self.supernet, put, (images, self._mixtures(architecture))), labels
            )

        return loss

    def _mixtures(self, architecture: TensorTuple) -> Mapping[CellKind, Mixture]:
        return {
            kind: Mixture.of(self.space, weights.softmax(1))
            for kind, weights in zip(self.architecture, architecture, strict=True)
        }

    def _virtual_step(self, weights: TensorTuple) -> VirtualStep:
        """The step that the optimiser would take next, without clipping."""
        group = self.optimizer.param_groups[0]
        moved = [_momentum(self.optimizer, weight) * group["momentum"] for weight in weights]
        return VirtualStep(group["lr"], group["weight_decay"], moved)


def _momentum(optimizer: SGD, weight: Tensor) -> Tensor:
    buffer: Tensor | None = (
        optimizer.state[weight].get("momentum_buffer") if weight in optimizer.state else None
    )
    return torch.zeros_like(weight) if buffer is None else buffer


def derive(space: SearchSpace, weights: Mapping[CellKind, Tensor]) -> Genotype:
    """The genotype of mixtures: edges x operations of the space, for each kind of cell."""
    normal, reduction = (_cell(space, weights[kind]) for kind in (CellKind.NORMAL, CellKind.REDUCE))
    return Genotype(schema_version=GENOTYPE_VERSION, normal=normal, reduce=reduction)


def _cell(space: SearchSpace, weights: Tensor) -> Cell:
    nodes = tuple(_node(space, weights[list(space.incoming(state))]) for state in space.states)
    return Cell(nodes=nodes, concat=tuple(space.states))


def _node(space: SearchSpace, weights: Tensor) -> tuple[Edge, ...]:
    """The strongest edges, of equal ones the earlier; ``weights``: sources x operations."""
    real = [column for column, operation in enumerate(space.operations) if operation != NONE]
    strength, best = weights[:, real].max(1)
    kept = sorted(strength.argsort(descending=True, stable=True)[:EDGES_PER_NODE].tolist())
    return tuple(Edge(operation=space.real[int(best[source])], source=source) for source in kept)
