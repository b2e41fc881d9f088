"""Cell search by growth: train a small template, grow its operations now and then, derive cells.

Reference: Wu et al. 2020, Sec. 3 (100 epochs, a growth every 10, 5 stacked cells). How we differ:
candidates at the same site of all cells of one kind are scored and grown as one (``Scope.tie``), so
the cells of a kind stay the same. Where the paper gives no setting, it is ours; weights are trained
as in DARTS. Weights and growth see the same training images; the images kept for validation are not
used.
"""

from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.optim import Optimizer

from fxgrow.argument_checks import checked
from fxgrow.cells.derive import Derivation
from fxgrow.cells.genotype import Genotype
from fxgrow.cells.result import (
    GrowthRecord,
    SearchEpoch,
    SearchListener,
    SearchResult,
    no_callback,
    search_result,
)
from fxgrow.cells.space import SearchSpace
from fxgrow.cells.template import GROWING, LAYER_PLACES, cell_ties, channels, layer_ties, template
from fxgrow.data import DataSet, batches
from fxgrow.growth import Budget, GrowthReport, Scope, StepOptions, grow_step
from fxgrow.methods import Firefly
from fxgrow.spec import multiply_adds
from fxgrow.surgery import DEFAULT_STATE, NewEntryRate, StateRuleName, StateTreatment
from fxgrow.timing import Stopwatch
from fxgrow.training import (
    WeightTraining,
    cross_entropy,
    require_step_memory,
    seeded,
    set_rate,
    sgd_step,
    shuffled,
)

_TRAINING_FACTOR = 3
"""Cost of a forward and a backward pass, in forward passes."""
_RECORDED = ("loss_before", "loss_after", "faithful_error", "preservation_error", "seconds")
"""The fields of a growth report that are kept in the result of a search."""


class FireflySearch(WeightTraining):
    """Cell search by growth. Its fields are the settings of the weights, then those of growth.

    Args:
        epochs: passes over the training images.
        batch_size: images per step.
        lr: learning rate of the first epoch.
        final_lr: learning rate that the last epoch comes close to.
        momentum: momentum of SGD.
        weight_decay: L2 penalty of SGD.
        clip: gradients whose total norm is larger are scaled down to this norm.
        grow_every: epochs between two growth steps.
        hidden: channels inside every operation at first.
        neurons: share of its hidden neurons that the template grows by in one step.
        layers: residual layers that a growth step may put behind operations; ``method.layers`` must
            then be above 0, and ``method.at`` cells.*.nodes.*.*.norm.
        growth_batches: batches that decide what grows.
        method: chooses what grows.
        state: what becomes of SGD's momentum when the template grows (``docs/optimizers.md``).
        new_entry_rate: how much faster than the rest new entries learn; None: as fast.
        derivation: how cells are derived; by default not by the paper's rule, ``Derivation()``, but
            by the one that gave better cells (``docs/results``).

    Raises:
        ArgumentError: ``bad-setting``: a value is out of range.

    Example:
        >>> search = FireflySearch(epochs=6, grow_every=2, batch_size=16)
        >>> search.search(SearchSpace(channels=4), train, valid, seed=0).genotype
    """

    epochs: int = Field(default=100, ge=1)
    grow_every: int = Field(default=10, ge=1)
    hidden: int = Field(default=2, ge=1)
    neurons: float = Field(default=0.15, gt=0)
    layers: int | None = None
    growth_batches: int = Field(default=4, ge=1)
    method: Firefly = Firefly(new=2, steps=8, refine_steps=4)
    state: StateRuleName = DEFAULT_STATE
    new_entry_rate: NewEntryRate | None = None
    derivation: Derivation = Derivation(identity_threshold=0.3, normalize_by_operation=True)

    @model_validator(mode="after")
    def _layers_have_a_place(self) -> "FireflySearch":
        if self.layers is not None and not self.method.layers:
            raise ValueError(
                "layers is how many layers may be inserted, and the method proposes none; give a "
                "method with layers above 0 and at, or leave layers out"
            )
        if self.method.layers and not self.method.at:
            raise ValueError(
                "the method proposes layers everywhere, but in a search they can only lie behind "
                f"operations; give the method at=({LAYER_PLACES!r},)"
            )
        return self

    @checked
    def search(
        self,
        space: SearchSpace,
        train: DataSet,
        valid: DataSet,
        *,
        seed: int = 0,
        callback: SearchListener = no_callback,
    ) -> SearchResult:
        """Search for cells; ``valid`` is not used.

        Raises ``DataError`` if there is no batch of two images, and what growth raises.
        """
        # Weights of the template and of new neurons are drawn by torch's own generator.
        with seeded(seed):
            state = _SearchState(self, space, train, seed)
            for epoch in range(1, self.epochs + 1):
                loss = state.train_one_epoch(epoch)
                if epoch % self.grow_every == 0:
                    state.grow(epoch)
                callback(state.record(epoch, loss))
        return search_result(
            state.stopwatch,
            self,
            space,
            seed,
            state.genotype,
            multiply_adds=state.spent,
            epochs=state.epochs,
            grown=state.grown,
        )


class _SearchState:
    """A search between two of its epochs."""

    def __init__(
        self, settings: FireflySearch, space: SearchSpace, train: DataSet, seed: int
    ) -> None:
        self.settings, self.space, self.train_set, self.seed = settings, space, train, seed
        # One generator draws both orders, pass by pass as they are asked for.
        rng = torch.Generator().manual_seed(seed)
        self.batches = shuffled(train, settings.batch_size, rng)
        self.growth_batches = batches(
            train,
            min(settings.batch_size, len(train)),  # one batch of all images if there are fewer
            shuffle=True,
            generator=rng,
            limit=settings.growth_batches,
        )
        network = template(space, settings.hidden, int(train.labels.max()) + 1)
        require_step_memory(network, train.images, settings.batch_size)
        self.network: nn.Module = network.to(train.images.device)
        self.optimizer: Optimizer = settings.optimizer(self.network)
        self.stopwatch = Stopwatch.start()
        self.spent = 0  # multiply-adds so far
        self.cost = multiply_adds(self.network, (train.images[:1],))  # of one image's forward pass
        self.epochs: list[SearchEpoch] = []
        self.grown = [self._growth_record(0, None)]

    @property
    def genotype(self) -> Genotype:
        """The cells that would be derived now."""
        counts = channels(self.network, self.space)
        return self.settings.derivation.derive(counts, self.settings.hidden)

    def train_one_epoch(self, epoch: int) -> float:
        """One epoch of plain training; gives the mean loss per batch."""
        set_rate(self.optimizer, self.settings.learning_rate(epoch - 1))
        self.network.train()
        losses = []
        for images, labels in self.batches:
            loss = cross_entropy(self.network(images), labels)
            losses.append(sgd_step(self.optimizer, loss, self.settings.clip))
            self.spent += _TRAINING_FACTOR * self.cost * len(labels)
        return sum(losses) / len(losses)

    def grow(self, epoch: int) -> None:
        """One growth step, in which the cells of a kind grow alike.

        Its cost is an upper bound: every pass counts as one through the graph with all candidates,
        and as if a backward pass followed.
        """
        settings = self.settings
        images_seen = 0

        def loss(output: Any, labels: Tensor) -> Tensor:
            # The loss is computed once per pass, which is how passes are counted.
            nonlocal images_seen
            images_seen += len(labels)
            return cross_entropy(output, labels)

        growth = grow_step(
            self.network,
            list(self.growth_batches),
            loss,
            method=settings.method,
            budget=Budget(neurons=settings.neurons, layers=settings.layers),
            options=StepOptions(
                optimizers=(self.optimizer,),
                seed=self.seed + epoch,
                scope=self._scope(),
                example_inputs=(self.train_set.images[:1],),
                describe=False,  # a spec costs time and is not needed
                costs=True,
                accept_no_gain=True,  # the search goes on: it is told by the weights in the end
                treatment=StateTreatment(settings.state, settings.new_entry_rate),
            ),
        )
        report = growth.report
        # Cells hold known operations only, so that their costs are always known.
        self.spent += _TRAINING_FACTOR * images_seen * (report.multiply_adds_overgrown or 0)
        # A growth step gives a new model, and an optimizer with the momentum of the old one.
        self.network, self.optimizer = growth.module, growth.optimizer or self.optimizer
        self.cost = report.multiply_adds_after or 0
        self.grown.append(self._growth_record(epoch, report))

    def _scope(self) -> Scope:
        ties = cell_ties(self.space)
        if self.settings.method.layers:
            ties = (*ties, *layer_ties(self.space))
        return Scope(only=(GROWING,), tie=ties)

    def _growth_record(self, epoch: int, report: GrowthReport | None) -> GrowthRecord:
        counts = channels(self.network, self.space)
        measured = {}
        if report is not None:
            measured = {name: getattr(report, name) for name in _RECORDED}
        by_name = {str(site): count for site, count in counts.items()}
        return GrowthRecord(epoch=epoch, channels=by_name, **measured)

    def record(self, epoch: int, loss: float) -> SearchEpoch:
        """The epoch that ends now."""
        self.epochs.append(
            SearchEpoch(
                epoch=epoch,
                train_loss=loss,
                seconds=self.stopwatch.seconds,
                multiply_adds=self.spent,
                genotype=self.genotype,
            )
        )
        return self.epochs[-1]
