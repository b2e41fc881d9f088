"""What a cell search gives back, the same for every method, and what a method is."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from fxgrow.cells.genotype import Genotype
from fxgrow.cells.migrations import rename_derivation
from fxgrow.cells.space import SearchSpace
from fxgrow.data import DataSet
from fxgrow.spec import Document, StrictModel

SEARCH_VERSION: Literal[2] = 2


@dataclass(frozen=True)
class Stopwatch:
    """The time since a search began."""

    wall: float
    cpu: float

    @staticmethod
    def start() -> "Stopwatch":
        """It begins now."""
        return Stopwatch(time.perf_counter(), time.process_time())

    @property
    def seconds(self) -> float:
        """Wall time."""
        return time.perf_counter() - self.wall

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all threads of this process."""
        return time.process_time() - self.cpu


class SearchEpoch(StrictModel):
    """One epoch of a search, counted from 1: mean losses per batch, and where the search stood at its end.

    ``valid_loss``: None where a method looks at no validation batch in training; ``genotype``: what would be derived
    now, None where nothing can be yet. ``seconds`` and ``multiply_adds`` count from the start of the search.
    """

    epoch: int
    train_loss: float
    seconds: float
    multiply_adds: int
    valid_loss: float | None = None
    genotype: Genotype | None = None


class RankedCells(StrictModel):
    """A candidate and how well it did on the validation images: mean loss, and accuracy from 0 to 1."""

    genotype: Genotype
    loss: float
    accuracy: float


class GrowthRecord(StrictModel):
    """A network that cells grow in, after a growth step (``epoch`` 0: before the first, nothing measured).

    ``channels``: inside every operation, by its place ``kind state<-source operation``; losses on the growth batches.
    """

    epoch: int
    channels: dict[str, int]
    loss_before: float | None = None
    loss_after: float | None = None
    faithful_error: float | None = None
    preservation_error: float | None = None
    seconds: float | None = None


class SearchResult(StrictModel):
    """A finished search: what it was told, what it found and what it spent.

    ``seconds``: wall time, ``cpu_seconds``: of all threads of this process. ``multiply_adds``: of the convolutions and
    matrix products in all forward and backward passes. The forward pass is counted on the meta device; gradients of
    weights and activations together count twice that, gradients that need activations alone once. ``ranked``: the
    candidates that were compared, best first; ``grown``: the channels of every operation, growth step by growth step.
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


def no_callback(epoch: SearchEpoch) -> None:
    """Listen to nothing."""


class SearchMethod(Protocol):
    """A way to find cells. It is its own settings: a frozen model that can be written down.

    ``train`` fits weights and ``valid`` judges cells, both images with labels from 0 on. ``listen`` hears every epoch.
    The same settings, data and seed give the same genotype; torch's own random numbers are left as they were.
    """

    def search(
        self,
        space: SearchSpace,
        train: DataSet,
        valid: DataSet,
        *,
        seed: int = 0,
        callback: SearchListener = no_callback,
    ) -> SearchResult: ...


def search_result(
    clock: Stopwatch,
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
        seconds=clock.seconds,
        cpu_seconds=clock.cpu_seconds,
        multiply_adds=multiply_adds,
        epochs=tuple(epochs),
        ranked=tuple(ranked),
        grown=tuple(grown),
    )
