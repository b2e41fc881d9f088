"""What can differ between two specifications: a closed set of kinds, as data.

Names are those of the second specification, or of the first for what only the first has.
``caused_by`` names the widths, layers or modules that a change follows from; it is empty for a
change that stands for itself.
"""

from collections.abc import Iterator
from typing import Literal

from fxgrow.documents import StrictModel
from fxgrow.spec.models import Cost, Count, GrowthStep, Shape

CausedBy = tuple[str, ...]


class InputDiff(StrictModel):
    """An example input that differs. Descriptions are text; None: there is no such input.

    Args:
        kind: Always "input".
        name: The input.
        before: Its dtype and shape in the first specification.
        after: Its dtype and shape in the second.
    """

    kind: Literal["input"] = "input"
    name: str
    before: str | None
    after: str | None


class WidthDiff(StrictModel):
    """A width that differs. Sizes are in neurons; None: the width does not exist there.

    Args:
        kind: Always "width".
        name: The width.
        was: Its name in the first specification, if it had another one.
        before: Its size in the first specification.
        after: Its size in the second.
        origin: "history" if growth steps between the two changed it; the following fields add up
            what they record.
        split: How many neurons were split.
        new: How many neurons are new.
        neurons: Which neurons were split.
        scores: The scores of the neurons that were chosen.
        score: The sum of the scores.
        parameters: How many parameters more it costs if nothing else changes. The sum over widths
            is less than the cost of all together where both ends of a layer grow.
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
    """A layer that a growth step between the two inserted.

    Args:
        kind: Always "layer".
        name: The layer.
        change: "removed" if the growth leads from the second specification to the first.
        after: The node that it follows.
        neurons: Its hidden neurons.
        form: What kind of layer it is.
        norm: Whether it contains a batch norm.
        score: Its score.
        nodes: The nodes that it consists of.
        parameters: The elements of its parameters.
    """

    kind: Literal["layer"] = "layer"
    name: str
    # Layers are looked for where the growth ends, which is the first side in a reversed diff.
    change: Literal["inserted", "removed"] = "inserted"
    after: str
    neurons: int
    form: str | None = None
    norm: bool | None = None
    score: float | None = None
    nodes: tuple[str, ...] = ()
    parameters: int = 0


class RenameDiff(StrictModel):
    """A node or a module with another name.

    Args:
        kind: Always "renamed".
        what: Which of the two it is.
        before: Its name in the first specification.
        after: Its name in the second.
    """

    kind: Literal["renamed"] = "renamed"
    what: Literal["node", "module"]
    before: str
    after: str


class NodeDiff(StrictModel):
    """A node that reads other nodes or has other constants.

    Args:
        kind: "rewired" for other nodes, "arguments" for other constants.
        name: The node.
        before: The call in the first specification, as text.
        after: The call in the second.
        caused_by: What the change follows from.
    """

    kind: Literal["rewired", "arguments"]
    name: str
    before: str
    after: str
    caused_by: CausedBy = ()


class ModuleDiff(StrictModel):
    """One constructor argument of one module. Values are text; None: there is no such argument.

    Args:
        kind: Always "attribute".
        name: The module.
        attribute: The argument; ``type`` is the class.
        before: Its value in the first specification.
        after: Its value in the second.
        caused_by: What the change follows from.
    """

    kind: Literal["attribute"] = "attribute"
    name: str
    attribute: str
    before: str | None
    after: str | None
    caused_by: CausedBy = ()


class TensorDiff(StrictModel):
    """A parameter or buffer that differs. None: it does not exist there.

    Args:
        kind: Always "tensor".
        name: The parameter or buffer.
        before: Its shape in the first specification.
        after: Its shape in the second.
        properties: What else differs (dtype, requires_grad and the like), as text.
        caused_by: What the change follows from.
    """

    kind: Literal["tensor"] = "tensor"
    name: str
    before: Shape | None
    after: Shape | None
    properties: tuple[str, ...] = ()
    caused_by: CausedBy = ()


CausedDiff = NodeDiff | ModuleDiff | TensorDiff
"""The kinds of changes that can follow from others."""
DiffRecord = InputDiff | WidthDiff | LayerDiff | RenameDiff | CausedDiff


class SpecDiff(StrictModel):
    """Everything that differs between two architectures.

    Args:
        inputs: Example inputs that differ.
        widths: Widths that differ.
        layers: Layers that growth inserted or removed.
        inserted: Nodes that only the second has, without those of layers.
        removed: Nodes that only the first has, without those of layers.
        renamed: Nodes and modules with other names.
        moved: Nodes that come earlier or later than before.
        changed: Nodes that read or compute something else.
        modules: Constructor arguments that differ.
        tensors: Parameters and buffers that differ.
        steps: The growth steps between the two.
        forward: Whether the steps lead from the first to the second, and not back.
        cost_before: The cost of the first.
        cost_after: The cost of the second.

    Example:
        >>> changes = fxgrow.diff(read_spec(Path("runs/a")), read_spec(Path("runs/b")))
        >>> [(width.name, width.before, width.after) for width in changes.widths]
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
        if self.inserted or self.removed or self.cost_before != self.cost_after:
            return False
        return all(isinstance(change, RenameDiff) for change in self.changes())

    def changes(self) -> Iterator[DiffRecord]:
        """All records of changes; inserted, removed and moved nodes have none, only a name."""
        yield from self.inputs
        yield from self.widths
        yield from self.layers
        yield from self.renamed
        yield from self.changed
        yield from self.modules
        yield from self.tensors

    def unexplained(self) -> tuple[CausedDiff, ...]:
        """The changes of nodes, modules and tensors that follow from nothing else."""
        changes: tuple[CausedDiff, ...] = (*self.changed, *self.modules, *self.tensors)
        return tuple(change for change in changes if not change.caused_by)
