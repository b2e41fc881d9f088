"""DARTS: a gradient over a continuous choice.

Reference: Liu, Simonyan, Yang, "DARTS: Differentiable Architecture Search", ICLR 2019, Eqs. 2-8 and
Algorithm 1. Every edge computes the softmax mixture of its operations; its architecture weights
descend on validation batches (Adam), the shared weights on training batches (SGD), in turn. In the
end every node keeps its two strongest incoming edges, and an edge its strongest operation but
``none``. How we differ: batch norms take the statistics of the batch (see ``supernet``), the edges
of a node are listed by their source, and gradients that are not needed are not computed.
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
from fxgrow.cells.baselines.supernet import (
    Mixture,
    Supernet,
    real_operation_columns,
    supernet_for,
)
from fxgrow.cells.genotype import GENOTYPE_VERSION, Cell, Edge, Genotype
from fxgrow.cells.result import (
    SearchEpoch,
    SearchListener,
    SearchResult,
    no_callback,
    search_result,
)
from fxgrow.cells.space import EDGES_PER_NODE, SearchSpace
from fxgrow.cells.stack import CellKind
from fxgrow.data import DataSet
from fxgrow.growth import Batch
from fxgrow.timing import Stopwatch
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
    """DARTS, by default with the authors' settings.

    The fields are the settings of the shared weights, then those of the architecture:

    Args:
        order: 1, or 2 to look one step of the shared weights ahead, at 2.6 times the cost.
        architecture_lr: learning rate of Adam.
        architecture_betas: decay rates of Adam's two means.
        architecture_weight_decay: L2 penalty of Adam.
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
        """Search for cells.

        Raises ``DataError`` if there is no batch of two images, ``TrainingError`` if the loss is
        not a finite number.
        """
        # One generator draws the architecture, then the orders of both sets of images.
        rng = torch.Generator().manual_seed(seed)
        training = shuffled(train, self.batch_size, rng)
        validation = shuffled(valid, self.batch_size, rng)
        with seeded(seed):
            state = DartsState.start(self, space, supernet_for(space, train, valid), rng)
        cost = search_cost(space, state.supernet, train.images.shape[1:]).mixture
        validation_batches = endless(validation)
        stopwatch, spent = Stopwatch.start(), 0
        epochs = []
        for epoch in range(self.epochs):
            set_rate(state.optimizer, self.learning_rate(epoch))
            steps = [state.step(batch, next(validation_batches)) for batch in training]
            spent += cost * sum(step.images for step in steps)
            epochs.append(_epoch_record(epoch + 1, steps, stopwatch, spent, state.genotype))
            callback(epochs[-1])
        return search_result(
            stopwatch, self, space, seed, state.genotype, multiply_adds=spent, epochs=epochs
        )


@dataclass(frozen=True)
class DartsStep:
    """The losses of one step, and the images that it passed forward, weighted by their cost."""

    train_loss: float
    valid_loss: float
    images: int


def _epoch_record(
    epoch: int, steps: Sequence[DartsStep], stopwatch: Stopwatch, spent: int, genotype: Genotype
) -> SearchEpoch:
    return SearchEpoch(
        epoch=epoch,
        train_loss=sum(step.train_loss for step in steps) / len(steps),
        valid_loss=sum(step.valid_loss for step in steps) / len(steps),
        genotype=genotype,
        seconds=stopwatch.seconds,
        multiply_adds=spent,
    )


@dataclass(frozen=True, eq=False)
class DartsState:
    """A search between two of its steps.

    ``architecture``: the weights of the operations before the softmax, [edges, operations], for
    each kind of cell.
    """

    settings: Darts
    space: SearchSpace
    supernet: Supernet
    architecture: Mapping[CellKind, Tensor]
    optimizer: SGD
    architecture_optimizer: Adam

    @staticmethod
    def start(
        settings: Darts, space: SearchSpace, supernet: Supernet, rng: torch.Generator
    ) -> "DartsState":
        """A search before its first step: all operations are equal, but for a little noise."""
        shape = space.edges, len(space.operations)
        like = next(supernet.parameters())  # the same dtype and device
        architecture = {}
        for kind in CellKind:
            noise = _INITIAL_SCALE * torch.randn(shape, generator=rng)
            architecture[kind] = noise.to(like).requires_grad_()
        architecture_optimizer = Adam(
            architecture.values(),
            lr=settings.architecture_lr,
            betas=settings.architecture_betas,
            weight_decay=settings.architecture_weight_decay,
        )
        optimizer = settings.optimizer(supernet)
        return DartsState(
            settings, space, supernet, architecture, optimizer, architecture_optimizer
        )

    @property
    def genotype(self) -> Genotype:
        """The cells that would be derived now."""
        mixtures = {}
        for kind, weights in self.architecture.items():
            mixtures[kind] = weights.detach().softmax(1)
        return derive(self.space, mixtures)

    def step(self, train: Batch, valid: Batch) -> DartsStep:
        """Step the architecture on ``valid``, then the weights on ``train``."""
        valid_loss, gradients = self.architecture_gradient(train, valid)
        # Only the architecture's gradient was computed, so it is handed to Adam by hand.
        for weights, gradient in zip(self.architecture.values(), gradients, strict=True):
            weights.grad = gradient
        self.architecture_optimizer.step()
        images, labels = train
        # The mixture is held fixed in the step of the weights.
        fixed = [weights.detach() for weights in self.architecture.values()]
        loss = cross_entropy(self.supernet(images, self._mixtures(fixed)), labels)
        train_loss = sgd_step(self.optimizer, loss, self.settings.clip)
        cost = self._weighted_images(len(labels), len(valid[1]))
        return DartsStep(train_loss, float(valid_loss), cost)

    def architecture_gradient(self, train: Batch, valid: Batch) -> tuple[Tensor, list[Tensor]]:
        """The validation loss and its gradient, of the order in the settings."""
        weights, architecture = list(self.supernet.parameters()), list(self.architecture.values())
        if self.settings.order == 1:
            return first_order(self._loss(valid), weights, architecture)
        step = self._virtual_step(weights)
        return second_order(self._loss(train), self._loss(valid), weights, architecture, step)

    def _weighted_images(self, train: int, valid: int) -> int:
        """The images of one step, each times the cost of its passes."""
        weight_step = TRAINING_FACTOR * train
        if self.settings.order == 1:
            return ARCHITECTURE_PASS * valid + weight_step
        virtual_step = TRAINING_FACTOR * train
        loss_after_it = TRAINING_FACTOR * valid  # with the gradient at the virtual weights
        central_difference = 2 * ARCHITECTURE_PASS * train
        return virtual_step + loss_after_it + central_difference + weight_step

    def _loss(self, batch: Batch) -> LossOfWeights:
        """The loss on one batch, as a function of weights and architecture."""
        images, labels = batch
        names = [name for name, _ in self.supernet.named_parameters()]

        def loss(weights: TensorTuple, architecture: TensorTuple) -> Tensor:
            # The supernet is called with other tensors in the place of its own parameters.
            parameters = dict(zip(names, weights, strict=True))
            inputs = (images, self._mixtures(architecture))
            return cross_entropy(functional_call(self.supernet, parameters, inputs), labels)

        return loss

    def _mixtures(self, architecture: TensorTuple) -> Mapping[CellKind, Mixture]:
        mixtures = {}
        for kind, weights in zip(self.architecture, architecture, strict=True):
            mixtures[kind] = Mixture.of(self.space, weights.softmax(1))
        return mixtures

    def _virtual_step(self, weights: TensorTuple) -> VirtualStep:
        """The step that the optimizer would take next, without clipping."""
        group = self.optimizer.param_groups[0]
        momentum = []
        for weight in weights:
            momentum.append(_momentum_buffer(self.optimizer, weight) * group["momentum"])
        return VirtualStep(group["lr"], group["weight_decay"], momentum)


def _momentum_buffer(optimizer: SGD, weight: Tensor) -> Tensor:
    """Zero before the first step of the optimizer."""
    # ``optimizer.state`` makes an entry for every weight that it is asked for, so look first.
    if weight not in optimizer.state:
        return torch.zeros_like(weight)
    buffer: Tensor | None = optimizer.state[weight].get("momentum_buffer")
    return torch.zeros_like(weight) if buffer is None else buffer


def derive(space: SearchSpace, weights: Mapping[CellKind, Tensor]) -> Genotype:
    """The genotype of mixtures.

    Args:
        space: the search space.
        weights: the share of every operation, for each kind of cell.

    Shapes:
        weights: [edges, operations of the space]

    Returns:
        The two strongest edges of every node, each with its strongest operation but ``none``.
    """
    normal = _cell(space, weights[CellKind.NORMAL])
    reduction = _cell(space, weights[CellKind.REDUCE])
    return Genotype(schema_version=GENOTYPE_VERSION, normal=normal, reduce=reduction)


def _cell(space: SearchSpace, weights: Tensor) -> Cell:
    nodes = []
    for state in space.states:
        nodes.append(_node(space, weights[list(space.incoming(state))]))
    return Cell(nodes=tuple(nodes), concat=tuple(space.states))


def _node(space: SearchSpace, weights: Tensor) -> tuple[Edge, ...]:
    """The strongest edges, of equal ones the earlier; ``weights``: [sources, operations]."""
    strength, best = weights[:, real_operation_columns(space)].max(1)
    # A stable sort leaves equal edges in the order of their sources.
    strongest = strength.argsort(descending=True, stable=True)[:EDGES_PER_NODE]
    edges = []
    for source in sorted(strongest.tolist()):
        edges.append(Edge(operation=space.real[int(best[source])], source=source))
    return tuple(edges)
