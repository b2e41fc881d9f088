"""What coupling knows of a tensor, of an axis of a parameter and of a place in the model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from torch import Tensor

from fxgrow.coupling.fields import Fields, field_core, place_field
from fxgrow.coupling.keys import AxisKey
from fxgrow.coupling.labels import Ints, Pin


class Role(StrEnum):
    """What an axis of a parameter does to the neurons along it."""

    WRITES = "writes"
    CARRIES = "carries"
    READS = "reads"


class Side(StrEnum):
    """Where neurons pass a module."""

    INPUT = "input"
    OUTPUT = "output"
    FEATURES = "features"  # what its method ``forward_features`` gives


@dataclass(frozen=True)
class Passage:
    """A place where neurons pass a module, the one at the path ``module``."""

    module: str
    side: Side


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of one parameter or buffer.

    Args:
        parameter: name of the parameter or buffer.
        axis: the dimension.
        labels: the label of each index.
        scales: whether halving the parameter halves the value that is made of it (not so for a
            mask or a nonlinear function).
        constant: whether it is a buffer, which is not learned.
    """

    parameter: str
    axis: int
    labels: Ints
    scales: bool = True
    constant: bool = False

    @property
    def key(self) -> AxisKey:
        """(parameter, axis), as mappings over axes are keyed."""
        return AxisKey(self.parameter, self.axis)


@dataclass
class Value:
    """What is known of one tensor.

    Args:
        fields: its label fields.
        axes: the axes of the parameters that it is made of, while it is made of nothing else.
        real: its numbers, where they are known.
        adopted: whether it is a constant of one number whose fields are those of neurons that it
            was combined with: of others that it is combined with there are as many.
        made_of: the constants that a constant was computed of, element by element.
        repeats: the dimensions along which it repeats one number, having been expanded there.
    """

    fields: Fields = field(default_factory=dict)
    axes: tuple[Axis, ...] = ()
    real: Tensor | None = None
    adopted: bool = False
    made_of: tuple[Tensor, ...] = ()
    repeats: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class Grid:
    """One labeled axis seen as a grid.

    A grid grows along one of its dimensions d only: then all cells of line i along d are one
    neuron, the one that ``factors[d][i]`` names, and its other dimensions are fixed.

    Args:
        joint: the label of each cell ``[i, j, ...]``.
        factors: for each dimension the labels of the lines along it.
        node: the operator that made it, as in ``Pin``.
        module: path of the module in which that happened.
        line: the user's line in which it happened.
    """

    joint: Ints
    factors: tuple[Ints, ...]
    node: str
    module: str
    line: str = ""


@dataclass(frozen=True, eq=False)
class ShapeEvent:
    """A reshape or split of labeled dimensions inside ``module``: a wrong size is blamed on it.

    ``line`` is the user's line, as in ``Pin``.
    """

    module: str
    labels: Ints
    line: str


@dataclass(frozen=True)
class WeightProduct:
    """A product of two weights that sums over ``labels``; ``left``, ``right``: axes of both."""

    left: tuple[Axis, ...]
    right: tuple[Axis, ...]
    pin: Pin


@dataclass(frozen=True, eq=False)
class Visible:
    """A value that ``module`` gets, by its fields, which have its shape."""

    module: str
    fields: Fields


def placed_fields(fields: Fields, dims: Sequence[int | None], shape: Sequence[int]) -> list[Tensor]:
    """See the fields of a value in another one; those that lose a dimension are left out.

    Args:
        fields: the fields.
        dims: where each dimension goes, as for ``place_field``.
        shape: the shape of the other value.

    Returns:
        The fields of the other value.
    """
    placed = []
    for labels in fields.values():
        moved = place_field(labels, dims, shape)
        if moved is not None:
            placed.append(moved)
    return placed


def line(labels: Tensor) -> Ints:
    """A one-dimensional field as an array."""
    array: Ints = field_core(labels).reshape(-1).numpy()
    return array
