"""What can differ between two specifications: a closed set of kinds, as data.

Names are those of the second specification, or of the first for what only the first has. ``because`` names the widths,
layers or modules that a change follows from; empty: it stands for itself.
"""

from collections.abc import Iterator
from typing import Literal

from fxgrow.documents import StrictModel
from fxgrow.spec.models import Cost, Count, GrowthStep, Shape

CausedBy = tuple[str, ...]


class InputDiff(StrictModel):
    """An example input, as text. None: it does not exist there."""

    kind: Literal["input"] = "input"
    name: str
    before: str | None
    after: str | None


class WidthDiff(StrictModel):
    """A width whose size differs, in neurons. None: it does not exist there.

    ``split``, ``new``, ``neurons`` and ``scores`` add up the growth steps between the two, ``score`` is the sum; with
    ``origin`` "unknown" there is no such step. ``parameters``: how many more it costs if nothing else changes, so the
    whole is more than the sum where both ends of a layer grow.
    """

    kind: Literal["width"] = "width"
    name: str
    was: str | None = None
    before: int | None
    after: int | None
    origin: Literal["history", "unknown"] = "unknown"
    split: int = 0
    new: int = 0
    neurons: tuple[Count, ...] = ()
    scores: tuple[float, ...] = ()
    score: float | None = None
    parameters: int = 0


class LayerDiff(StrictModel):
    """A layer that a growth step put in between the two: its nodes, the node it follows, its hidden neurons.

    ``change`` is "removed" if the growth leads from the second specification to the first.
    """

    kind: Literal["layer"] = "layer"
    name: str
    change: Literal["inserted", "removed"] = "inserted"
    after: str
    neurons: int
    form: str | None = None
    norm: bool | None = None
    score: float | None = None
    nodes: tuple[str, ...] = ()
    parameters: int = 0


class RenameDiff(StrictModel):
    """A node or a module with another name."""

    kind: Literal["renamed"] = "renamed"
    what: Literal["node", "module"]
    before: str
    after: str


class NodeDiff(StrictModel):
    """A node that reads other nodes ("rewired") or has other constants ("arguments"); both as text."""

    kind: Literal["rewired", "arguments"]
    name: str
    before: str
    after: str
    caused_by: CausedBy = ()


class ModuleDiff(StrictModel):
    """One constructor argument of one module (``type``: its class), as Python prints it. None: it is not there."""

    kind: Literal["attribute"] = "attribute"
    name: str
    attribute: str
    before: str | None
    after: str | None
    caused_by: CausedBy = ()


class TensorDiff(StrictModel):
    """A parameter or buffer whose shape differs, or its dtype or the like (``properties``, as text).

    None: it does not exist there.
    """

    kind: Literal["tensor"] = "tensor"
    name: str
    before: Shape | None
    after: Shape | None
    properties: tuple[str, ...] = ()
    caused_by: CausedBy = ()


DiffRecord = InputDiff | WidthDiff | LayerDiff | RenameDiff | NodeDiff | ModuleDiff | TensorDiff


class SpecDiff(StrictModel):
    """Everything that differs between two architectures, the growth steps between them, and both costs.

    ``inserted`` and ``removed`` are nodes that are part of no layer; ``moved`` nodes come earlier or later than before.
    ``forward``: the steps lead from the first to the second, not back.
    """

    inputs: tuple[InputDiff, ...] = ()
    widths: tuple[WidthDiff, ...] = ()
    layers: tuple[LayerDiff, ...] = ()
    inserted: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    renamed: tuple[RenameDiff, ...] = ()
    moved: tuple[str, ...] = ()
    changed: tuple[NodeDiff, ...] = ()
    modules: tuple[ModuleDiff, ...] = ()
    tensors: tuple[TensorDiff, ...] = ()
    steps: tuple[GrowthStep, ...] = ()
    forward: bool = True
    cost_before: Cost
    cost_after: Cost

    @property
    def empty(self) -> bool:
        """Whether nothing differs, not even a name or the order."""
        return not (self.renamed or self.moved) and self.cosmetic

    @property
    def cosmetic(self) -> bool:
        """Whether nothing but names and the order of nodes differs."""
        nodes = self.inserted or self.removed
        others = (each for each in self.changes() if not isinstance(each, RenameDiff))
        return not nodes and next(others, None) is None and self.cost_before == self.cost_after

    def changes(self) -> Iterator[DiffRecord]:
        """All changes but inserted, removed and moved nodes, which are only names."""
        yield from self.inputs
        yield from self.widths
        yield from self.layers
        yield from self.renamed
        yield from self.changed
        yield from self.modules
        yield from self.tensors

    def unexplained(self) -> tuple[NodeDiff | ModuleDiff | TensorDiff, ...]:
        """The changes of nodes, modules and tensors that follow from no width, layer or other module."""
        found: tuple[NodeDiff | ModuleDiff | TensorDiff, ...] = (
            *self.changed,
            *self.modules,
            *self.tensors,
        )
        return tuple(each for each in found if not each.caused_by)
