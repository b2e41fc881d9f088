"""The result of a cell search, the same for every method, and what a method is."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from fxgrow.cells.genotype import Genotype
from fxgrow.cells.migrations import rename_derivation
from fxgrow.cells.space import SearchSpace
from fxgrow.data import DataSet
from fxgrow.spec import Document, StrictModel
from fxgrow.timing import Stopwatch

SEARCH_VERSION: Literal[2] = 2


class SearchEpoch(StrictModel):
    """One epoch of a search. Losses are means per batch; costs count from the start of the search.

    Args:
        epoch: number of the epoch, from 1.
        train_loss: training loss.
        seconds: wall time.
        multiply_adds: multiply-adds of all passes.
        valid_loss: validation loss; None for a method that does not validate in training.
        genotype: the cells that would be derived now; None where there are none yet.

    Example:
        >>> result = SEARCHES["firefly"].search(space, train, valid)
        >>> result.epochs[-1].train_loss
        1.7
    """

    epoch: int
    train_loss: float
    seconds: float
    multiply_adds: int
    valid_loss: float | None = None
    genotype: Genotype | None = None


class RankedCells(StrictModel):
    """A candidate with its mean loss and its accuracy (0 to 1) on the validation images."""

    genotype: Genotype
    loss: float
    accuracy: float


class GrowthRecord(StrictModel):
    """A network that cells grow in, after a growth step.

    ``epoch`` 0 is the network before the first one, with nothing measured. ``channels``: inside
    every operation, by its site ``kind state<-source operation``; losses on the growth batches.
    """

    epoch: int
    channels: dict[str, int]
    loss_before: float | None = None
    loss_after: float | None = None
    faithful_error: float | None = None
    preservation_error: float | None = None
    seconds: float | None = None


class SearchResult(StrictModel):
    """A finished search: its settings, the cells that it found, and what it cost.

    Multiply-adds are those of the convolutions and matrix products in all forward and backward
    passes. The forward pass is counted on the meta device; gradients of weights and activations
    together count twice that, gradients of activations alone once.

    Args:
        schema_version: version of the document.
        method: class of the search method.
        settings: settings of the method.
        space: the search space.
        seed: seed of the search.
        genotype: the cells.
        seconds: wall time.
        cpu_seconds: CPU time of all threads of the process.
        multiply_adds: multiply-adds of all passes.
        epochs: the epochs, in order.
        ranked: the candidates that were compared, best first, by a method that compares some.
        grown: the channels of every operation, growth step by growth step, by a search by growth.

    Example:
        >>> result = SEARCHES["random"].search(space, train, valid, seed=3)
        >>> result.genotype in space
        True
    """

    schema_version: Literal[2] = SEARCH_VERSION
    method: str
    settings: dict[str, Any]
    space: SearchSpace
    seed: int
    genotype: Genotype
    seconds: float
    cpu_seconds: float
    multiply_adds: int
    epochs: tuple[SearchEpoch, ...] = ()
    ranked: tuple[RankedCells, ...] = ()
    grown: tuple[GrowthRecord, ...] = ()

    @property
    def train_losses(self) -> tuple[float, ...]:
        """The mean training loss of every epoch."""
        return tuple(epoch.train_loss for epoch in self.epochs)


SEARCH_DOCUMENT = Document("cell-search", SearchResult, SEARCH_VERSION, {1: rename_derivation})

SearchListener = Callable[[SearchEpoch], None]
"""A function that is called with every epoch, when it ends."""


def no_callback(epoch: SearchEpoch) -> None:
    """Ignore every epoch."""


class SearchMethod(Protocol):
    """A way to find cells. It is its own settings: a frozen model that can be written down.

    The same settings, data and seed give the same genotype; the state of torch's own generators is
    restored.

    Args:
        fields: the settings of the method; the protocol prescribes none.

    Example:
        >>> def compare(methods: Iterable[SearchMethod]) -> list[Genotype]:
        ...     return [method.search(space, train, valid).genotype for method in methods]
    """

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

        Args:
            space: the operations to choose from, and the network to search in.
            train: images that weights are trained on, with labels from 0 on.
            valid: images that cells are compared on.
            seed: draws all that is random.
            callback: called with every epoch, when it ends.

        Returns:
            The cells, and what they cost.
        """
        ...


def search_result(
    stopwatch: Stopwatch,
    method: BaseModel,
    space: SearchSpace,
    seed: int,
    genotype: Genotype,
    *,
    multiply_adds: int,
    epochs: Iterable[SearchEpoch] = (),
    ranked: Iterable[RankedCells] = (),
    grown: Iterable[GrowthRecord] = (),
) -> SearchResult:
    """The result of a search that ends now; ``method`` is its settings."""
    return SearchResult(
        method=type(method).__name__,
        settings=method.model_dump(mode="json"),
        space=space,
        seed=seed,
        genotype=genotype,
        seconds=stopwatch.seconds,
        cpu_seconds=stopwatch.cpu_seconds,
        multiply_adds=multiply_adds,
        epochs=tuple(epochs),
        ranked=tuple(ranked),
        grown=tuple(grown),
    )
